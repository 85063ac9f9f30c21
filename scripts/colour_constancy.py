#!/usr/bin/env python3
"""Copies of data sources in which every picture has the colour of its light taken out.

    MELANOMA_DATA=... python scripts/colour_constancy.py OUT --sources ham10000 isic2018 siim2020
    MELANOMA_DATA=OUT melanoma_train --data ham10000,isic2018 ...

Each picture goes through `shades_of_gray` (Minkowski norm 6) and is written under its own name, as
JPEG of quality 95; tables are copied as they are. So a network can be trained and judged on such
pictures with the ordinary commands. OUT is for that one trial and is not published: the pictures
are those of the sources."""
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import parser_of
from PIL import Image

from melanoma_nbdev.data.manifest import load_manifest
from melanoma_nbdev.engine import thread_map
from melanoma_nbdev.images import read_image
from melanoma_nbdev.training.augment import shades_of_gray


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('out', type=Path, help='folder for the copies')
    parser.add_argument('--sources', nargs='+', required=True, help='sources of MELANOMA_DATA')
    parser.add_argument('--limit', type=int, help='this many pictures of each')
    return parser.parse_args()


def copy_picture(path, root, out):
    "One picture without the colour of its light, at the same place below `out`."
    picture, _ = read_image(path)
    pixels = torch.from_numpy(np.asarray(picture, dtype=np.float32)/255).permute(2, 0, 1)
    balanced = (shades_of_gray(pixels).permute(1, 2, 0)*255).round().byte().numpy()
    target = out/Path(path).relative_to(root)
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(balanced).save(target, format='JPEG', quality=95)


def source_folder(paths):
    "The folder of a source: the nearest above all its pictures that holds a table."
    return next(folder for folder in Path(paths[0]).parents if any(folder.glob('*.csv')))


def main():
    "Copy the tables, then the pictures."
    given = options()
    torch.set_num_threads(1)
    for source in given.sources:
        paths = list(load_manifest(source)['path'][:given.limit])
        folder = source_folder(paths)
        home = given.out/folder.name
        home.mkdir(parents=True, exist_ok=True)
        for table in folder.glob('*.csv'):
            shutil.copy(table, home)
        for _ in thread_map(partial(copy_picture, root=folder.parent, out=given.out), paths):
            pass
        print(f'{source}: {len(paths):,} pictures in {home}', flush=True)


if __name__ == '__main__':
    main()
