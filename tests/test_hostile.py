"""Files that were made to do harm: two hundred straight into the page, a dozen through a browser.
Each gets an answer or a reason; nothing crashes, nothing runs, and memory stays bounded."""
import csv
import io
import multiprocessing
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from conftest import until
from hostile import NAMES, files

from melanoma_nbdev.bedside.answer import report_html, table_csv
from melanoma_nbdev.bedside.app import MelanomaPage, send_files

MAX_PEAK = 600  # MB that the process may take in all
REMARKS = {'ul', 'ul class', 'li', 'em', 'p class'}  # an answer with remarks brings these


# ---- what came of them

class Markup(HTMLParser):
    "The tags, attributes and addresses of a piece of HTML."
    def __init__(self, text):
        super().__init__()
        self.found = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.add(tag)
        self.found |= {f'{tag} {name}' for name, _ in attributes}
        self.found |= {f'{tag} {name}=address' for name, value in attributes
                       if name in ('src', 'href') and not (value or '').startswith(('data:', '#'))}


def markup_of(page):
    "The markup of all that a page shows and hands out."
    cards = ''.join(card.value for card in page.answers.children)
    report = report_html(page.card, page.lesions, pictures=True)
    return Markup(cards + page.tiles.value + page.notice.value + report).found


def peak_megabytes():
    """The most that this process held. Linux counts what the parent held into `ru_maxrss`, so there
    the kernel's own mark is read."""
    import resource
    status = Path('/proc/self/status')
    if not status.exists(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss/1024
    return int(re.search(r'VmHWM:\s+(\d+)', status.read_text())[1])/1024


def pairs(given):
    "Files as (name, content)."
    return [(name, data) for _, name, data in given]


def answer_all(given, queue):
    "Hand all files to a page; the markup of good and of bad cards, what was said, and the peak."
    page = MelanomaPage()
    page.example()
    for _ in range(2):  # the second time they are not taken, and a note says so
        send_files(page, ('text.jpg', b'text'), ('empty.jpg', b''))
    good = markup_of(page)
    page.forget()
    for place in range(0, len(given), 20):
        send_files(page, *given[place:place + 20])
    table, bad = table_csv(page.card, page.lesions), markup_of(page)
    verdicts = [(lesion.score, lesion.answer['error']) for lesion in page.lesions]
    peak = peak_megabytes()
    queue.put(dict(good=good, bad=bad, verdicts=verdicts, table=table, peak=peak,
                   cards=len(page.answers.children)))


@pytest.fixture(scope='module')
def outcome():
    "What the page made of 200 files, in a process of its own."
    context = multiprocessing.get_context('spawn')
    queue = context.Queue()
    process = context.Process(target=answer_all, args=(pairs(files()), queue))
    process.start()
    found = queue.get(timeout=300)
    process.join(30)
    return found


@pytest.mark.skipif(sys.platform == 'win32', reason='the peak of memory is asked of Unix')
def test_200_files(outcome):
    "Each has an answer or a reason; pictures under bad names are answered; memory is bounded."
    verdicts = outcome['verdicts']
    assert len(files()) == len(verdicts) == outcome['cards'] == 200
    assert all((score is None) != (error is None) for score, error in verdicts)
    assert all(0 <= score <= 1 for score, _ in verdicts if score is not None)
    assert all(score is not None for score, _ in verdicts[:len(NAMES)])
    assert all(score is None for score, _ in verdicts[len(NAMES):len(NAMES) + 12])
    assert outcome['peak'] < MAX_PEAK, outcome['peak']
    print(f"{sum(score is not None for score, _ in verdicts)} answered, "
          f"{outcome['peak']:.0f} MB at most")


def test_no_markup_of_theirs(outcome):
    "Cards, tiles, notes and report hold no tag or attribute that harmless files do not bring."
    assert len(outcome['good']) > 20
    assert not outcome['bad'] - outcome['good'] - REMARKS
    assert not [tag for tag in outcome['bad'] if ' on' in tag or tag.startswith('script')]


def test_no_formula_of_theirs(outcome):
    "No cell of the table begins as a formula does."
    cells = [cell for row in csv.reader(io.StringIO(outcome['table'])) for cell in row]
    assert len(cells) > 2000 and not [cell for cell in cells if cell[:1] in ('=', '@', '\t', '\r')]
    assert not [cell for cell in cells if cell[:1] in '+-' and cell[1:2].isalpha()]


def test_through_the_browser(browser, served):
    "A dozen of them through the file chooser: each has its card, and nothing of theirs runs."
    page = browser.new_page()
    page.set_default_timeout(120_000)
    errors, away = [], []
    page.on('pageerror', lambda error: errors.append(str(error)))
    page.on('dialog', lambda dialog: (errors.append('dialog'), dialog.dismiss()))
    page.on('request', lambda request: away.append(request.url))
    page.goto(served.url, wait_until='commit')
    page.wait_for_selector('.mel-btn.primary:not(:disabled)')
    given = pairs(files())
    chosen = [*given[:8], *given[20:22], *given[32:34]]
    with page.expect_file_chooser() as chooser: page.click('.mel-btn.primary')
    chooser.value.set_files([dict(name=name.replace('\0', ''), mimeType='image/jpeg', buffer=data)
                             for name, data in chosen])
    until(page, "document.querySelectorAll('.answers article').length == 12"
                " && !document.querySelector('.status .work')")
    assert page.evaluate('window.harmed') is None and not errors
    assert page.evaluate('document.documentElement.scrollWidth - innerWidth') <= 0
    assert not [url for url in away if not url.startswith((served.url, 'data:', 'blob:'))]
    page.close()
