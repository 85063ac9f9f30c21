#!/usr/bin/env python3
"""The most memory that a process takes when it reads image files.

    python scripts/read_memory.py FILE_OR_FOLDER ...

Every FILE is read in a process of its own, all files of a FOLDER in one. Prints a line for each:
peak memory in MB (10**6 bytes, Python and its libraries included), seconds, and what came of it."""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path


def peak():
    "Peak memory of this process in bytes."
    unit = 1 if sys.platform == 'darwin' else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def outcome(path):
    "What reading a file gives, in one line."
    from melanoma_nbdev.core import ImageError
    from melanoma_nbdev.images import read_image

    try:
        image, _ = read_image(path)
    except ImageError as error:
        return f'refused: {error}'
    return f'read: {image.width} x {image.height}'


def read_here(path):
    "Read a file, or each file of a folder, and print the record of it as JSON."
    began = time.time()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    outcomes = {file.name: outcome(file) for file in files}
    print(json.dumps(dict(peak=peak(), seconds=time.time() - began, outcomes=outcomes)))


def read_apart(path):
    "The record of `read_here`, from a process of its own."
    command = [sys.executable, __file__, '--here', str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout)


def main(paths):
    for path in map(Path, paths):
        record = read_apart(path)
        words = list(record['outcomes'].values())
        answered = sum(word.startswith('read') for word in words)
        result = f'{answered} of {len(words)} files read' if path.is_dir() else words[0]
        print(f"{record['peak'] / 1e6:6.0f} MB {record['seconds']:6.1f} s  {path.name}  {result}")


if __name__ == '__main__':
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ('-h', '--help'):
        sys.exit(print(__doc__))
    if arguments[0] == '--here':
        read_here(Path(arguments[1]))
    else:
        main(arguments)
