"What the scripts share: where results lie, the command line, the machine in words."
import argparse
import os
import platform
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT/'results'


def parser_of(text):
    "A command line that prints the script's own text with `--help`."
    return argparse.ArgumentParser(
        description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def inherited(*left_out, **more):
    """What a process to be measured inherits: no variable that begins with one of `left_out`, and
    never the ban on keeping compiled modules, with which each start compiles them anew."""
    hidden = (*left_out, 'PYTHONDONTWRITEBYTECODE')
    kept = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return kept | more


def machine(*packages):
    "Processor, Python and the versions of packages, in words."
    words = [platform.machine(), f'Python {platform.python_version()}']
    return ', '.join(words + [f'{package} {version(package)}' for package in packages])


def options_in_words(given, names):
    "The options of a command line that were given, as they are typed."
    values = {name: getattr(given, name) for name in names}
    return ' '.join(f'--{name} {value}' for name, value in values.items() if value is not None)
