#!/usr/bin/env python3
"""Pictures that are no lesions, drawn by code: noise, flat colours, gradients, text, charts, faces,
textures, and phantom skin without a lesion. The same seed gives the same pictures.

    python scripts/non_lesions.py --dest runs/non_lesions.png

Writes them side by side, a row a kind; `fit_refusal.py` shows them to a model."""
import math
from pathlib import Path

import numpy as np
from common import parser_of
from melanoma_nbdev.phantom.decoys import draw_bare_skin
from melanoma_nbdev.phantom.traits import contact_sheet, pigment_colour, random_stream, smooth_noise
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SIZE = 256
WORDS = ('the', 'patient', 'was', 'seen', 'again', 'after', 'invoice', 'total', '2026', 'date',
         'address', 'page', 'of', 'letter', 'from', 'and', 'signed', 'number', '48.50', 'thanks')


def colour_of(rng):
    "Any colour."
    return tuple(int(value) for value in rng.integers(0, 256, 3))


def skin_colour(rng):
    "A colour that skin has."
    return tuple(int(255*value) for value in pigment_colour(rng.uniform(.05, 1.5), .3).ravel())


def as_picture(values):
    "Values from 0 to 1, (h, w, 3), as a picture."
    return Image.fromarray((np.clip(values, 0, 1)*255 + .5).astype(np.uint8))


def draw_noise(rng):
    "White noise, smooth noise in colours, or grains on a flat colour."
    kind = rng.integers(4)
    if kind == 0: return as_picture(rng.random((SIZE, SIZE, 3)))
    if kind == 1:
        grey = rng.uniform(.05, .3)*rng.normal(size=(SIZE, SIZE, 1))
        return as_picture(.5 + grey.repeat(3, 2))
    if kind == 2:
        grids = [smooth_noise(rng, (SIZE, SIZE), rng.uniform(3, 40), 3) for _ in range(3)]
        return as_picture(.5 + .2*np.stack(grids, -1))
    flat = np.full((SIZE, SIZE, 3), np.array(colour_of(rng))/255)
    flat[rng.random((SIZE, SIZE)) < rng.uniform(.02, .3)] = rng.integers(0, 2)
    return as_picture(flat)


def draw_flat(rng):
    "One colour, every other time one that skin has, some with the grain of a sensor."
    colour = skin_colour(rng) if rng.random() < .5 else colour_of(rng)
    flat = np.full((SIZE, SIZE, 3), np.array(colour)/255)
    return as_picture(flat + rng.choice([0, .01, .03])*rng.normal(size=flat.shape))


def draw_gradient(rng):
    "From one colour to another: along a line, from a centre, or around it."
    across, down = np.meshgrid(*[np.linspace(-1, 1, SIZE)]*2)
    turn, kind = rng.uniform(0, 2*math.pi), rng.integers(3)
    if kind == 0: share = .5 + .5*(across*math.cos(turn) + down*math.sin(turn))/1.42
    elif kind == 1: share = np.hypot(across - rng.uniform(-.5, .5), down - rng.uniform(-.5, .5))/1.5
    else: share = (np.arctan2(down, across) + math.pi)/(2*math.pi)
    ends = np.array([colour_of(rng), colour_of(rng)])/255
    return as_picture(ends[0] + share[..., None]*(ends[1] - ends[0]))


def draw_text(rng):
    "Lines of words, dark on light or light on dark."
    paper, ink = (250, 248, 240), (20, 20, 30)
    if rng.random() > .7: paper, ink = (25, 25, 30), (220, 220, 220)
    image = Image.new('RGB', (SIZE, SIZE), paper)
    pen, size = ImageDraw.Draw(image), int(rng.integers(9, 40))
    font = ImageFont.load_default(size)
    for top in range(int(rng.integers(4, 20)), SIZE - size, int(size*rng.uniform(1.2, 1.8))):
        words = ' '.join(rng.choice(WORDS, 12))
        pen.text((10, top), words, font=font, fill=ink)
    return image


def draw_chart(rng):
    "A diagram as reports hold them: lines, bars, points or a pie."
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(figsize=(3.2, 2.8), dpi=80)
    kind, colours = rng.integers(4), [np.array(colour_of(rng))/255 for _ in range(5)]
    if kind == 0:
        for colour in colours[:3]: axes.plot(rng.normal(size=30).cumsum(), color=colour)
    elif kind == 1: axes.bar(range(5), rng.random(5), color=colours)
    elif kind == 2: axes.scatter(*rng.normal(size=(2, 60)), color=colours[0])
    else: axes.pie(rng.random(5) + .1, colors=colours)
    axes.set_title('Share by year')
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba())[..., :3].copy()
    pyplot.close(figure)
    return Image.fromarray(pixels)


def draw_face(rng):
    "A drawn face: head, hair, eyes, nose, mouth."
    image = Image.new('RGB', (SIZE, SIZE), colour_of(rng))
    pen, skin = ImageDraw.Draw(image), skin_colour(rng)
    x, y = SIZE/2 + rng.normal(0, 8), SIZE/2 + 8
    wide, high = rng.uniform(60, 85), rng.uniform(80, 105)
    pen.ellipse((x - wide - 8, y - high - 16, x + wide + 8, y + high*.4), fill=colour_of(rng))
    pen.ellipse((x - wide, y - high, x + wide, y + high), fill=skin)
    for side in (-1, 1):
        eye, size, above = x + side*wide*.42, rng.uniform(8, 13), y - 30
        pen.ellipse((eye - size*1.6, above - size, eye + size*1.6, above + size), fill='white')
        iris = .7*size
        pen.ellipse((eye - iris, above - iris, eye + iris, above + iris), fill=(40, 30, 25))
        pen.line((eye - size*2, y - 50, eye + size*2, y - 52), fill=(50, 35, 30), width=4)
    pen.line((x, y - 20, x - 8, y + 18, x + 4, y + 20), fill=(90, 50, 40), width=3)
    mouth = x - wide*.4, y + 25, x + wide*.4, y + rng.uniform(50, 70)
    pen.chord(mouth, 0, 180, fill=(170, 50, 60))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0, 1.5)))


def draw_texture(rng):
    "Stripes, squares, bricks, discs or weave."
    rows, columns = np.indices((SIZE, SIZE))
    step, kind = int(rng.integers(6, 48)), rng.integers(5)
    turn = rng.uniform(0, math.pi)
    along = columns*math.cos(turn) + rows*math.sin(turn)
    patterns = (lambda: np.floor(along/step) % 2, lambda: (rows//step + columns//step) % 2,
                lambda: (rows % step < 2) | ((columns + (rows//step % 2)*step) % (2*step) < 2),
                lambda: np.hypot(rows % step - step/2, columns % step - step/2) < step*.35,
                lambda: .5 + .25*(np.sin(2*math.pi*rows/step) + np.sin(2*math.pi*columns/step)))
    share = np.asarray(patterns[kind](), float)[..., None]
    ends = np.array([colour_of(rng), colour_of(rng)])/255
    grain = .03*rng.normal(size=(SIZE, SIZE, 1))
    return as_picture(ends[0] + share*(ends[1] - ends[0]) + grain)


KINDS = dict(noise=draw_noise, flat=draw_flat, gradient=draw_gradient, text=draw_text,
             chart=draw_chart, face=draw_face, texture=draw_texture, skin=draw_bare_skin)


def non_lesions(per_kind=48, seed=51):
    "Yield (kind, picture)."
    for number, (kind, draw) in enumerate(KINDS.items()):
        for index in range(per_kind):
            yield kind, draw(random_stream(seed, number, index))


def options():
    "What the command line asks for."
    parser = parser_of(__doc__)
    parser.add_argument('--per_kind', type=int, default=8, help='pictures of each kind')
    parser.add_argument('--seed', type=int, default=51)
    parser.add_argument('--dest', type=Path, default=Path('runs/non_lesions.png'))
    return parser.parse_args()


def main():
    "Draw, and write the sheet."
    given = options()
    pictures = [picture for _, picture in non_lesions(given.per_kind, given.seed)]
    given.dest.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(pictures, given.per_kind).save(given.dest)


if __name__ == '__main__':
    main()
