#!/usr/bin/env python3
"""Pictures to which the distance from dermoscopy is fitted as what is none: shapes in front of one
another with photographic grain, dermoscopic pictures cut and shuffled, recoloured or mixed with
shapes, and skin beside the lesion. Drawn skin of other seeds may be added. None is a picture of
`non_lesions.py`, but some shapes resemble its kinds.

    python scripts/decoys.py --dest runs/decoys.png

Writes some side by side, made of phantom lesions; `fit_refusal.py` makes its own of real ones."""
import math
from pathlib import Path

import numpy as np
from common import ROOT, parser_of
from melanoma_nbdev.phantom.lesion import contact_sheet, smooth_noise
from PIL import Image, ImageDraw, ImageFilter

SIDE = 192


def as_picture(values):
    "Values from 0 to 255, (h, w, 3), as a picture."
    return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))


def outline(rng, x, y, radius):
    "A mask with an ellipse, a box, a polygon or a bar."
    mask = Image.new('L', (SIDE, SIDE))
    pen, flat = ImageDraw.Draw(mask), radius*rng.uniform(.3, 1)
    kind = rng.integers(4)
    if kind == 0: pen.ellipse((x - radius, y - flat, x + radius, y + flat), fill=255)
    elif kind == 1: pen.rectangle((x - radius, y - flat, x + radius, y + flat), fill=255)
    elif kind == 2:
        angles = np.sort(rng.uniform(0, 2*math.pi, int(rng.integers(3, 9))))
        reach = radius*rng.uniform(.4, 1.2, (2, len(angles)))
        corners = x + reach[0]*np.cos(angles), y + reach[1]*np.sin(angles)
        pen.polygon(list(zip(*(side.tolist() for side in corners), strict=True)), fill=255)
    else:
        angle = rng.uniform(0, math.pi)
        across, down = 3*radius*math.cos(angle), 3*radius*math.sin(angle)
        width = max(1, int(radius*.15))
        pen.line((x - across, y - down, x + across, y + down), fill=255, width=width)
    soft = rng.uniform(0, 2) if rng.random() < .5 else 0
    return mask.filter(ImageFilter.GaussianBlur(soft))


def surface(rng, colour):
    "A colour, rough or striped."
    fill = np.full((SIDE, SIDE, 3), colour, float)
    if rng.random() < .5: return fill
    rough = smooth_noise(rng, (SIDE, SIDE), rng.uniform(4, 60), int(rng.integers(1, 4)))
    fill += rough[..., None]*rng.uniform(5, 40)
    if rng.random() < .3:
        rows, columns = np.indices((SIDE, SIDE))
        angle, step = rng.uniform(0, math.pi), rng.uniform(3, 20)
        along = rows*math.sin(angle) + columns*math.cos(angle)
        fill += 20*np.sin(along*2*math.pi/step)[..., None]
    return fill


def shapes(rng):
    "Shapes in front of one another, as dead leaves lie; their sizes follow a power law."
    image = Image.new('RGB', (SIDE, SIDE), tuple(rng.integers(0, 256, 3).tolist()))
    palette = rng.integers(0, 256, (int(rng.integers(3, 9)), 3))
    for _ in range(int(np.exp(rng.uniform(3, 5)))):
        radius = SIDE*min(.6, .02/rng.random()**.7)
        mask = outline(rng, *rng.uniform(-.1, 1.1, 2)*SIDE, radius)
        colour = palette[rng.integers(len(palette))] + rng.normal(0, 25, 3)
        image.paste(as_picture(surface(rng, colour)), mask=mask)
    values = np.asarray(image, float)
    if rng.random() < .7:
        grey = values.mean(2, keepdims=True)
        values = (grey + (values - grey)*rng.uniform(0, .6))*np.exp(rng.normal(0, .12, 3))
    light = 1 + smooth_noise(rng, (SIDE, SIDE), 1.5)[..., None]*rng.uniform(0, .25)
    return as_picture(values*light + rng.normal(0, rng.uniform(0, 6), (SIDE, SIDE, 1)))


def shuffled(rng, image):
    "A picture cut into squares that change places."
    n = int(rng.integers(2, 7))
    step = SIDE//n
    image, result = image.resize((n*step, n*step)), Image.new('RGB', (n*step, n*step))
    for place, source in enumerate(rng.permutation(n*n)):
        left, top = step*(source % n), step*(source//n)
        piece = image.crop((left, top, left + step, top + step))
        if rng.random() < .5: piece = piece.transpose(Image.Transpose.ROTATE_180)
        result.paste(piece, (step*(place % n), step*(place//n)))
    return result


def recoloured(rng, image):
    "A picture as a negative, with its channels swapped, in another tint or in few colours."
    values, kind = np.asarray(image.resize((SIDE, SIDE)), float), rng.integers(4)
    orders = [2, 1, 0], [1, 0, 2], [2, 0, 1], [1, 2, 0]
    if kind == 0: return as_picture(255 - values)
    if kind == 1: return as_picture(values[..., orders[rng.integers(4)]])
    if kind == 2:
        moved = (values - values.mean((0, 1)))*rng.uniform(.7, 2)
        return as_picture(moved + 255*rng.random(3))
    few = np.floor(values/255*rng.integers(2, 5))/4
    return as_picture(255*few[..., rng.permutation(3)])


def mixed(rng, image):
    "Parts of a picture behind shapes."
    cells = rng.uniform(1.5, 8)
    mask = smooth_noise(rng, (SIDE, SIDE), cells, 2) > rng.normal(0, .3)
    mask = Image.fromarray((mask*255).astype(np.uint8))
    return Image.composite(shapes(rng), image.resize((SIDE, SIDE)), mask)


def beside(rng, image):
    "A corner of a picture, a little from its edge: skin, as a rule without a lesion."
    side = int(min(image.size)*rng.uniform(.25, .33))
    edge = int(.04*min(image.size))
    left = [edge, image.width - side - edge][rng.integers(2)]
    top = [edge, image.height - side - edge][rng.integers(2)]
    return image.crop((left, top, left + side, top + side))


def decoys(rng, images, large, n=1200):
    "Yield n decoys; `large` are pictures whose corners are sharp enough to stand for skin."
    pick = lambda: images[rng.integers(len(images))]
    for number in range(n):
        part = number % 12
        if part < 5: yield shapes(rng)
        elif part < 7: yield recoloured(rng, pick())
        elif part == 7: yield shuffled(rng, pick())
        elif part == 8: yield mixed(rng, pick())
        else: yield beside(rng, large[rng.integers(len(large))])


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--n', type=int, default=48, help='pictures')
    parser.add_argument('--seed', type=int, default=51)
    parser.add_argument('--dest', type=Path, default=Path('runs/decoys.png'))
    return parser.parse_args()


def main():
    "Draw, and write the sheet."
    given = options()
    folder = ROOT/'melanoma_nbdev'/'examples'/'jpeg'/'train'
    lesions = [Image.open(path).convert('RGB') for path in sorted(folder.glob('*.jpg'))[:20]]
    pictures = list(decoys(np.random.default_rng(given.seed), lesions, lesions, given.n))
    given.dest.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(pictures, 12).save(given.dest)


if __name__ == '__main__':
    main()
