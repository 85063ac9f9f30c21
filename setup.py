"Installs melanoma_nbdev; everything it knows is read from settings.ini."
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup, find_packages

root = Path(__file__).resolve().parent
cfg = ConfigParser(delimiters=['='])
cfg.read(root/'settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']
readme = root/'README.md'
words = lambda key: cfg.get(key, '').split()
lines = lambda key: [l.strip() for l in cfg.get(key, '').splitlines() if l.strip()]
extras = {name: words(f'{name}_requirements') for name in ('train', 'dicom', 'ray', 'accelerate', 'dev')}
extras['dev'] += extras['train']
data = [p.relative_to(root/'melanoma_nbdev').as_posix() for d in ('weights', 'examples', 'bedside/page') for p in sorted((root/'melanoma_nbdev'/d).rglob('*')) if p.is_file()] + ['house.mplstyle']

setup(name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
      long_description=readme.read_text(encoding='utf-8') if readme.exists() else '', long_description_content_type='text/markdown',
      author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'], license='Apache-2.0', license_files=['LICENSE'],
      classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: Science/Research', 'Natural Language :: English',
                   *(f'Programming Language :: Python :: {v}' for v in ('3', '3.11', '3.12', '3.13'))],
      packages=find_packages(include=['melanoma_nbdev*']), package_data={'melanoma_nbdev': data}, include_package_data=True,
      python_requires=f">={cfg['min_python']}", install_requires=words('requirements'), extras_require=extras,
      entry_points={'console_scripts': lines('console_scripts'), 'nbdev': [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"]}, zip_safe=False)
