"""Two hundred files that were made to do harm, for the tests of both faces: good pictures under bad
names, bombs, what is no image, images that are something else as well, damaged ones."""
import io
import struct
import zlib

import numpy as np
from conftest import ROOT
from PIL import Image

PHANTOMS = sorted((ROOT/'melanoma_nbdev/examples/jpeg/train').glob('*.jpg'))
SCRIPT = b'<script>window.harmed = 1</script><img src=x onerror="window.harmed = 1">'
NAMES = [
    '<img src=x onerror=window.harmed=1>.jpg', '"><script>window.harmed=1</script>.jpg',
    "'-window.harmed-'.jpg", '{{ 7 * 7 }}{% raw %}.jpg', '../../../etc/passwd', '..\\..\\win.ini',
    'a' * 10_000 + '.jpg', '\u202egpj.exe', 'two\nlines\r\n.jpg', '=HYPERLINK("http://x")',
    '@SUM(1+1)*cmd|calc', '&lt;b&gt;.jpg', 'javascript:window.harmed=1', ' ', '\u0000.jpg',
    '-2+3+cmd', '</template></style></script>.jpg', 'x' * 255 + '/..', 'COM1', '\U0001f480.jpg']


def encoded(image, kind, **options):
    "The bytes of a picture as a file."
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png(width, height, pixels, *chunks):
    "A PNG that promises width x height pixels."
    def chunk(kind, body):
        check = zlib.crc32(kind + body)
        return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', check)
    header = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    parts = [(b'IHDR', header), *chunks, (b'IDAT', pixels), (b'IEND', b'')]
    return b'\x89PNG\r\n\x1a\n' + b''.join(chunk(*part) for part in parts)


def sources():
    "One picture in each kind of file."
    image = Image.open(PHANTOMS[1]).convert('RGB')
    kinds = ('PNG', 'WEBP', 'GIF', 'BMP', 'TIFF')
    return dict(JPEG=PHANTOMS[1].read_bytes(), **{kind: encoded(image, kind) for kind in kinds})


def damaged(number, seed=0):
    "Cut ends, flipped bits and noise in the middle, in turn."
    random = np.random.default_rng(seed)
    whole = list(sources().items())
    for place in range(number):
        kind, data = whole[place % len(whole)]
        data = bytearray(data)
        how = ('cut', 'flipped', 'noisy')[place // len(whole) % 3]
        at = int(random.integers(1, len(data)))
        if how == 'cut': del data[at:]
        elif how == 'flipped':
            for bit in random.integers(0, 8*len(data), 12): data[bit // 8] ^= 1 << bit % 8
        else: data[at:at + 256] = random.bytes(256)
        yield f'{how} {kind}', bytes(data)


def bombs():
    "Small files that ask for very much memory."
    zeros = zlib.compress(bytes(30_000_000), 9)
    small, note = zlib.compress(bytes(64*193)), b'k\0\0' + zlib.compress(bytes(10**8))
    yield png(60_000, 60_000, zeros)
    yield png(10_900, 11_000, zeros)
    yield png(2**31 - 1, 1, zeros)
    yield png(1, 2**31 - 1, zeros)
    yield png(64, 64, small, (b'zTXt', note))
    yield png(64, 64, small, (b'iCCP', note))
    yield PHANTOMS[1].read_bytes()[:163] + b'\xff\xfe\xff\xff' + bytes(65_533)*200
    yield b'\xff\xd8' + b'\xff'*5000
    yield b'\xff\xd8' + b'\xff\xfe\0\2'*10**6
    yield b'GIF89a' + struct.pack('<HH', 65_535, 65_535) + bytes(60)
    yield b'BM' + struct.pack('<IHHIIiiHHIIiiII', 99, 0, 0, 54, 40, 2**30, 2**30, 1, 24, *[0]*6)
    yield b'II*\0' + struct.pack('<I', 8) + struct.pack('<H', 60_000) + bytes(720_000)


def disguised():
    "What is no image, and images that are something else as well."
    bodies = [b'<svg xmlns="http://www.w3.org/2000/svg" onload="window.harmed=1"/>',
              b'<html>' + SCRIPT, b'%PDF-1.7\n' + SCRIPT, b'PK\x03\x04' + SCRIPT,
              b'MZ' + bytes(300), b'#!/bin/sh\nid', b'',
              b'\x80\x04\x95' + SCRIPT, b'\xff\xd8\xff' + SCRIPT,
              b'GIF89a/*' + SCRIPT + b'*/=1;']
    for place in range(20):
        yield 'no image', bodies[place % len(bodies)] + bytes(place // len(bodies) * (place + 1))
    for kind, whole in sources().items():
        yield f'{kind}, then ZIP', whole + b'PK\x05\x06' + bytes(18)
        yield f'{kind}, then HTML', whole + SCRIPT
        yield f'head of PNG, then {kind}', b'\x89PNG\r\n\x1a\n' + whole
        yield f'head of JPEG, then {kind}', b'\xff\xd8\xff\xe0' + whole


def named():
    "Good pictures with bad names, and with markup in all that a file tells of itself."
    for place, name in enumerate(NAMES):
        exif = Image.Exif()
        exif[0x010e], exif[0x013b] = SCRIPT.decode(), NAMES[-1 - place]
        image = Image.open(PHANTOMS[place]).convert('RGB')
        yield name, encoded(image, 'JPEG', exif=exif, comment=SCRIPT)


def files():
    "200 files as (kind, name, content); no content twice."
    bad = [*(('bomb', data) for data in bombs()), *disguised()]
    found = [*(('badly named JPEG', name, data) for name, data in named()),
             *((kind, NAMES[place % len(NAMES)], data) for place, (kind, data) in enumerate(bad))]
    rest = enumerate(damaged(200 - len(found)))
    return found + [(kind, f'{place}.jpg', data) for place, (kind, data) in rest]
