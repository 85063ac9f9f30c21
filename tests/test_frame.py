"""The page in a frame that is not its own: plain `voila` shows the notebook, as Binder does. It
brings its style, its disclaimer and its messages along, and leaves the rest as it is."""
import pytest
from conftest import BIN, ROOT, Served, free_port, until

from melanoma_nbdev.bedside.texts import text


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    "The notebook, served by Voila alone."
    folder = tmp_path_factory.mktemp('plain')
    command = [BIN/'voila', ROOT/'nbs'/'app.ipynb', '--no-browser', '--port', free_port()]
    server = Served(command, folder, folder/'log.txt', env=dict(PYTHONPATH=str(ROOT)))
    yield server
    server.stop()


def styled(page, selector, name):
    "A computed style of an element."
    return page.locator(selector).first.evaluate(f'one => getComputedStyle(one).{name}')


def test_plain_voila(browser, plain):
    "In the browser's language: disclaimer and style are there, and what the scripts do is done."
    page = browser.new_page(locale='de-AT', viewport=dict(width=1280, height=900))
    errors = []
    page.on('pageerror', lambda error: errors.append(str(error)))
    page.goto(plain.url)
    page.get_by_role('button', name=text('try', language='de')).wait_for(timeout=120_000)
    assert page.get_by_text(text('not_device.lead', language='de')).is_visible()
    assert page.get_by_text(text('private.notebook', language='de')).is_visible()
    assert styled(page, '.framed', 'backgroundColor') != styled(page, 'body', 'backgroundColor')
    assert styled(page, '.mel-btn.primary', 'borderRadius') == '10px'
    answer_examples(page)
    check_card(page)
    assert not errors
    page.close()


def answer_examples(page):
    "One example by its picture, then all six: the one that is there already is named."
    page.locator('.thumb').nth(2).click()
    until(page, "document.querySelectorAll('.answers article').length === 1")
    page.locator('.mel-btn.second').click()
    until(page, "document.querySelectorAll('.answers article').length === 6")
    page.get_by_text('Schon da').wait_for()
    page.locator('#note button').click()


def check_card(page):
    "One card is open at a time, a site reaches the tile, the picture opens large."
    page.locator('.tile').last.click()
    assert page.locator('article:visible').count() == 1
    page.locator('article:visible .body-site input').fill('Knie')
    page.keyboard.press('Tab')
    page.wait_for_selector('.tile >> text=Knie')
    page.locator('article:visible .zoom').click()
    page.wait_for_selector('dialog:modal')
    assert styled(page, 'dialog:modal', 'borderRadius') != '0px'
    page.keyboard.press('Escape')
