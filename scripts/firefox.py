"""The machine's own Firefox for the scripts, by WebDriver BiDi, with Playwright's names for what
they use. Playwright itself asks this Firefox for commands that it does not have."""
import base64
import itertools
import json
import re
import subprocess
import tempfile
import time
from pathlib import Path

import psutil
from websocket import create_connection

WAIT_S = 600


class Firefox:
    "A running Firefox; `close` ends it and removes its profile."
    def __init__(self, program='firefox-esr'):
        self.profile = tempfile.TemporaryDirectory()
        command = [program, '--headless', '--no-remote', '--profile', self.profile.name,
                   '--remote-debugging-port', '0', 'about:blank']
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        listening = re.compile(r'BiDi listening on (ws://\S+)')
        address = next(found.group(1) for found in map(listening.search, self.process.stderr)
                       if found)
        self.socket = create_connection(f'{address}/session', timeout=WAIT_S,
                                        suppress_origin=True)
        self.numbers = itertools.count()
        self.version = self.send('session.new', capabilities={})['capabilities']['browserVersion']

    def send(self, method, **params):
        "Send a command, and give its result."
        number = next(self.numbers)
        self.socket.send(json.dumps(dict(id=number, method=method, params=params)))
        while (said := json.loads(self.socket.recv())).get('id') != number: pass
        if said['type'] == 'success': return said['result']
        raise RuntimeError(f"{method}: {said['error']}: {said['message']}")

    def new_context(self):
        return Context(self)

    def new_page(self):
        return Page(self, 'default')

    def page_processes(self):
        "The processes that draw pages, by the last word of their command."
        children = psutil.Process(self.process.pid).children(recursive=True)
        return [child.pid for child in children if child.cmdline()[-1:] == ['tab']]

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(60)
        self.profile.cleanup()


class Context:
    "A visitor with a storage of its own."
    def __init__(self, firefox):
        self.firefox = firefox
        self.name = firefox.send('browser.createUserContext')['userContext']

    def new_page(self):
        return Page(self.firefox, self.name)

    def close(self):
        self.firefox.send('browser.removeUserContext', userContext=self.name)


class Page:
    "A tab."
    def __init__(self, firefox, visitor):
        self.firefox = firefox
        made = firefox.send('browsingContext.create', type='tab', userContext=visitor)
        self.tab = made['context']

    def goto(self, url, wait_until='load'):
        wait = dict(load='complete', commit='none')[wait_until]
        self.firefox.send('browsingContext.navigate', context=self.tab, url=url, wait=wait)

    def evaluate(self, source, argument=None):
        "What a function of JavaScript, or an expression, comes to; as JSON takes it."
        call = f"""async text => {{
            const made = ({source});
            const value = typeof made === 'function' ? made(JSON.parse(text)) : made;
            return JSON.stringify(await value ?? null);
        }}"""
        result = self.firefox.send(
            'script.callFunction', functionDeclaration=call, awaitPromise=True,
            arguments=[dict(type='string', value=json.dumps(argument))],
            target=dict(context=self.tab))
        if result['type'] == 'exception': raise RuntimeError(result['exceptionDetails']['text'])
        return json.loads(result['result']['value'])

    def wait_for_selector(self, selector):
        "Until an element is there and shown."
        shown = f'Boolean(document.querySelector({json.dumps(selector)})?.checkVisibility())'
        while not self.evaluate(shown): self.wait_for_timeout(20)

    def wait_for_timeout(self, milliseconds):
        time.sleep(milliseconds/1000)

    def click(self, selector):
        self.evaluate(f'document.querySelector({json.dumps(selector)}).click()')

    def set_input_files(self, selector, paths):
        locator = dict(type='css', value=selector)
        [node] = self.firefox.send('browsingContext.locateNodes', context=self.tab,
                                   locator=locator)['nodes']
        self.firefox.send('input.setFiles', context=self.tab,
                          element=dict(sharedId=node['sharedId']), files=list(map(str, paths)))

    def set_viewport_size(self, size):
        self.firefox.send('browsingContext.setViewport', context=self.tab, viewport=size)

    def screenshot(self, path):
        "The whole page as a PNG."
        made = self.firefox.send('browsingContext.captureScreenshot', context=self.tab,
                                 origin='document')
        Path(path).write_bytes(base64.b64decode(made['data']))

    def close(self):
        self.firefox.send('browsingContext.close', context=self.tab)
