"Installs melanoma_nbdev; everything it needs to know is read from settings.ini."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
PACKAGE = ROOT/'melanoma_nbdev'
PYTHONS = ('3', '3.11', '3.12', '3.13')

parser = ConfigParser(delimiters=['='])
parser.read(ROOT/'settings.ini', encoding='utf-8')
settings = parser['DEFAULT']
readme = ROOT/'README.md'


def words(key):
    "The words of an entry of settings.ini."
    return settings.get(key, '').split()


def lines(key):
    "The lines of an entry of settings.ini."
    return [line.strip() for line in settings.get(key, '').splitlines() if line.strip()]


def package_files():
    "Everything in the package that is no Python: model, card, page, examples, templates, tables."
    files = [path for path in sorted(PACKAGE.rglob('*')) if path.is_file()]
    skipped = ('.py', '.pyc')
    return [path.relative_to(PACKAGE).as_posix() for path in files if path.suffix not in skipped]


extras = {name: words(f'{name}_requirements')
          for name in ('train', 'dicom', 'heic', 'parquet', 'ray', 'accelerate', 'dev')}
extras['dev'] += extras['train']

setup(
    name=settings['lib_name'],
    version=settings['version'],
    description=settings['description'],
    keywords=settings['keywords'],
    long_description=readme.read_text(encoding='utf-8') if readme.exists() else '',
    long_description_content_type='text/markdown',
    author=settings['author'],
    author_email=settings['author_email'],
    url=settings['git_url'],
    license='Apache-2.0',
    license_files=['LICENSE'],
    classifiers=[
        'Development Status :: 3 - Alpha',
        'Intended Audience :: Science/Research',
        'Natural Language :: English',
        *(f'Programming Language :: Python :: {version}' for version in PYTHONS)],
    packages=find_packages(include=['melanoma_nbdev*']),
    package_data={'melanoma_nbdev': package_files()},
    include_package_data=True,
    python_requires=f">={settings['min_python']}",
    install_requires=words('requirements'),
    extras_require=extras,
    entry_points={
        'console_scripts': lines('console_scripts'),
        'nbdev': [f"{settings['lib_name']}={settings['lib_name']}._modidx:d"]},
    zip_safe=False)
