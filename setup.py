"Installs melanoma_nbdev; everything it knows is read from settings.ini."
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup, find_packages

cfg = ConfigParser(delimiters=['='])
cfg.read('settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']
words = lambda key: cfg.get(key, '').split()
extras = {name: words(f'{name}_requirements') for name in ('train', 'dev')}
extras['dev'] += extras['train']

setup(name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
      long_description=Path('README.md').read_text(encoding='utf-8') if Path('README.md').exists() else '', long_description_content_type='text/markdown',
      author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'], license='Apache-2.0',
      classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: Science/Research', 'Natural Language :: English', 'Programming Language :: Python :: 3'],
      packages=find_packages(include=['melanoma_nbdev*']), include_package_data=True,
      package_data={'melanoma_nbdev': ['weights/*', 'examples/*', 'examples/jpeg/train/*', 'page/*']},
      python_requires=f">={cfg['min_python']}", install_requires=words('requirements'), extras_require=extras,
      entry_points={'console_scripts': [l.strip() for l in cfg['console_scripts'].splitlines() if l.strip()], 'nbdev': [f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"]}, zip_safe=False)
