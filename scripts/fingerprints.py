#!/usr/bin/env python3
"""Fingerprints of the images that an artefact was trained on, put into it, and how well they tell
a copy from another picture.

    MELANOMA_DATA=... python scripts/fingerprints.py melanoma_nbdev/weights --drawn data/phantom-aux
    python scripts/fingerprints.py ARTEFACT --sources FOLDER --dest try.json

Writes seen.bin beside model.onnx, its entry in card.json, the artefact's texts with --texts, and
the same figures as page/seen.json.

False matches: each training image against those of other lesions, patients and sources, held in all
eight ways. Pairs that `find_duplicates` takes for one photograph count as one lesion: to find them
is right. Then pictures that the model was not trained on: those of another copy of SIIM-ISIC 2020
(--copy), photographs of other things, and the package's examples. The limit is the largest number
of differing bits at which no more than --share of each of these have a match; beside the training
images, kinds with too few pictures to tell have no say. So these shares are those that the limit
was chosen by.

Found again: the same file; the picture saved anew as JPEG of quality 75; half as large; both;
turned or mirrored; and the images of --copy that were trained on, there at another size."""
import io
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from common import RESULTS, machine, parser_of
from PIL import Image

from melanoma_nbdev.core import (
    RunError, atomic_path, data_home, package_dir, read_json, sha256, write_card, write_json)
from melanoma_nbdev.data.duplicates import find_duplicates, official_duplicates
from melanoma_nbdev.data.manifest import load_manifest, load_manifests
from melanoma_nbdev.data.splits import add_groups
from melanoma_nbdev.engine import pool_map, progress_bar
from melanoma_nbdev.images import both_squares, open_image
from melanoma_nbdev.report.limits import share_row
from melanoma_nbdev.report.seen import (
    BITS, SEEN_FILE, as_words, file_fingerprints, fingerprints, nearest_of_others, seen_content,
    seen_distance)

SAME = 'training images, held against those of other lesions, patients and sources'


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('artefact', type=Path, help='folder with model.onnx and card.json')
    parser.add_argument('--sources', default='siim2020,ham10000,isic2018',
                        help='sources or folders that the model was trained on, with commas')
    parser.add_argument('--drawn', help='folder of drawn lesions that it was trained on as well')
    parser.add_argument('--copy', type=Path, help='folder with another copy of SIIM-ISIC 2020 '
                        '(default: siim-isic-2020 under MELANOMA_DATA, if --sources name the set)')
    parser.add_argument('--share', type=float, default=.001, help='false matches, at most')
    parser.add_argument('--n', type=int, default=2000, help='images that copies are made of')
    parser.add_argument('--seed', type=int, default=0, help='which images')
    parser.add_argument('--workers', type=int, help='processes (default: one a core)')
    parser.add_argument('--texts', type=Path, help='folder of results, to write the texts anew')
    parser.add_argument('--dest', type=Path, default=RESULTS/'page'/'seen.json')
    return parser.parse_args()


# ---- copies

def saved_anew(picture, quality=75):
    "The picture, out of a JPEG."
    file = io.BytesIO()
    picture.save(file, 'JPEG', quality=quality)
    return Image.open(file).convert('RGB')


def half_as_large(picture):
    "The picture at half its sides."
    sides = (max(1, side//2) for side in picture.size)
    return picture.resize(tuple(sides), Image.Resampling.BICUBIC)


def turned(picture, k):
    "The picture in the k-th of the seven other ways to hold it."
    return picture.transpose(list(Image.Transpose)[k % 7])


COPIES = {
    'the same file': lambda picture, k: picture,
    'saved anew as JPEG of quality 75': lambda picture, k: saved_anew(picture),
    'half as large': lambda picture, k: half_as_large(picture),
    'half as large and saved anew': lambda picture, k: saved_anew(half_as_large(picture)),
    'turned or mirrored': turned}
"Kind of copy -> what it makes of a picture and its number"


# ---- fingerprints

def ways_of(picture, card):
    "The eight fingerprints of a picture, as `Predictor` takes them."
    first, _ = both_squares(picture, card['size'], card.get('crop', 'centre'))
    return fingerprints(np.asarray(first))


def ways_of_copies(numbered, card):
    "Those of each kind of copy of a file; its number says how it is turned."
    number, path = numbered
    picture = open_image(path)
    return [ways_of(change(picture, number), card) for change in COPIES.values()]


def all_ways(paths, card, given, function=file_fingerprints):
    "The fingerprints of files, (n, 8, RECORD); of copies (n, kinds, 8, RECORD)."
    found = pool_map(partial(function, card=card), paths, workers=given.workers)
    return np.stack(list(found))


def nearest(ways, groups, known, known_groups):
    "The same as `nearest_of_others`, with a bar."
    bar = progress_bar(len(ways), 'held against each other')
    found = nearest_of_others(ways, groups, known, known_groups, bar)
    bar.close()
    return found


# ---- pictures

def trained_on(given, card):
    "The manifest of all training images. `RunError` where the card counts others."
    rows = load_manifests(given.sources)
    if given.drawn: rows = pd.concat([rows, load_manifest(given.drawn)], ignore_index=True)
    named = sum(row['n'] for row in card['data'])
    if len(rows) != named:
        raise RunError(f"{len(rows):,} images are here, and the card names {named:,}; name with "
                       "--sources and --drawn what the model was trained on")
    return rows


def other_copy(given):
    "The manifest of another copy of SIIM-ISIC 2020; empty where there is none."
    folder = given.copy
    if folder is None and data_home() and 'siim2020' in given.sources.split(','):
        folder = data_home()/'siim-isic-2020'
    if folder is None or not folder.is_dir(): return pd.DataFrame(columns=['image_id', 'path'])
    return load_manifest('siim2020', root=folder, missing='drop')


def grouped(rows, new, given):
    "Both tables with `group`: a lesion, a patient, or a photograph under several names."
    table = pd.concat([rows, new], ignore_index=True)
    pairs = find_duplicates(table, workers=given.workers)[['image_1', 'image_2']]
    if len(new):
        listed = official_duplicates(given.copy or data_home()/'siim-isic-2020')
        pairs = pd.concat([pairs, listed.set_axis(['image_1', 'image_2'], axis=1)])
    table = add_groups(table, pairs)
    return table.iloc[:len(rows)], table.iloc[len(rows):]


# ---- what is counted

def chosen_limit(apart, share):
    """The most bits that may differ so that no more than a share of any kind of pictures has a
    false match; beside the training images, kinds with fewer than 1/share have no say."""
    large = [bits for kind, bits in apart.items() if kind == SAME or len(bits)*share >= 1]
    limits = range(BITS//2)
    fine = [limit for limit in limits if all(np.mean(bits <= limit) <= share for bits in large)]
    return max(fine, default=0)


def not_trained_on(new, card, known, known_groups, given):
    "Kind -> bits that differ, of pictures that the model was not trained on."
    found = {}
    if len(new):
        ways = all_ways(new.path, card, given)
        found['SIIM-ISIC 2020, images that were not trained on'] = nearest(
            ways, new.group.to_numpy(), known, known_groups)[:, 0]
    folders = {'photographs of other things': (data_home() or Path('nothing'))/'out-of-domain',
               "the package's drawn examples": package_dir()/'examples'/'jpeg'/'train'}
    for kind, folder in folders.items():
        paths = sorted(folder.glob('*.jpg'))
        if not paths: continue
        ways = all_ways(paths, card, given)
        found[kind] = np.array([seen_distance(known, eight) for eight in ways])
    return found


def found_again(rows, copies, card, known, limit, given):
    "A row a kind of copy: how many of them are recognised."
    some = rows.sample(min(given.n, len(rows)), random_state=given.seed)
    ways = all_ways(list(enumerate(some.path)), card, given, ways_of_copies)
    found = []
    for place, kind in enumerate(COPIES):
        apart = np.array([seen_distance(known, eight) for eight in ways[:, place]])
        found.append(share_row(kind, apart <= limit))
    if len(copies):
        ways = all_ways(copies.path, card, given)
        apart = np.array([seen_distance(known, eight) for eight in ways])
        found.append(share_row('SIIM-ISIC 2020 at 512 pixels, trained on at 300', apart <= limit))
    return found


def pairs_within(rows, nearest_ones, limit):
    "False matches among the training images, each pair once, the nearest first."
    found = {}
    for own, (bits, other) in zip(rows.image_id, nearest_ones, strict=True):
        pair = tuple(sorted([own, rows.image_id.iloc[other]]))
        if bits <= limit: found[pair] = min(int(bits), found.get(pair, BITS))
    return [dict(bits=bits, images=list(pair))
            for pair, bits in sorted(found.items(), key=lambda one: (one[1], one[0]))]


STEPS = list(range(0, 65, 4))
"Limits for which false matches are written down, too"


def judged(given, card):
    "The file, the entry of the card, and what results/ has beside it."
    rows, copy = trained_on(given, card), other_copy(given)
    is_known = copy.image_id.isin(rows.image_id)
    rows, new = grouped(rows, copy[~is_known], given)
    ways = all_ways(rows.path, card, given)
    known, groups = as_words(ways[:, 0]), rows.group.to_numpy()
    nearest_ones = nearest(ways, groups, known, groups)
    apart = {SAME: nearest_ones[:, 0]} | not_trained_on(new, card, known, groups, given)
    limit = chosen_limit(apart, given.share)
    content = seen_content([one.tobytes() for one in ways[:, 0]])
    entry = dict(sha256=sha256(content), n=len(rows), bits=BITS, limit=limit, share=given.share)
    entry['false_matches'] = [share_row(kind, bits <= limit) for kind, bits in apart.items()]
    entry['found_again'] = found_again(rows, copy[is_known], card, known, limit, given)
    matched = {kind: [int(np.sum(bits <= most)) for most in STEPS] for kind, bits in apart.items()}
    beside = dict(pairs=pairs_within(rows, nearest_ones, limit), limits=STEPS,
                  matched_by_limit=matched)
    return content, entry, beside


def main():
    "Read, choose the limit, judge, write."
    given = options()
    card = read_json(given.artefact/'card.json')
    content, entry, beside = judged(given, card)
    with atomic_path(given.artefact/SEEN_FILE) as file: file.write_bytes(content)
    write_card(given.artefact/'card.json', card | dict(seen=entry))
    if given.texts:
        from melanoma_nbdev.report.card import write_cards

        write_cards(given.texts, given.artefact)
    write_json(given.dest, entry | beside | dict(
        model=card['sha256'], machine=machine('numpy', 'Pillow')))
    for name in ('false_matches', 'found_again'): print(pd.DataFrame(entry[name]).to_string())


if __name__ == '__main__':
    main()
