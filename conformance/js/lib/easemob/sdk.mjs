// Loads the Easemob SDKs into Node. They are made for browsers: each device
// gets an instance of its own together with the surrounding that it reads.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import vm from 'node:vm';

import { JSDOM, VirtualConsole } from 'jsdom';
import WebSocket from 'ws';
import XMLHttpRequest from 'xhr2';

const require = createRequire(import.meta.url);

const BUILDS = {
  easemob: 'easemob-websdk/Easemob-chat.js',
  'agora-chat': 'agora-chat/Agora-chat.js',
};

/** The origin of the pages that jsdom plays: never that of the server. */
const PAGE = 'http://app.test/';

/** What the SDKs take from the global object, and whether it is there decides what they do. */
const SURROUNDING = [
  'self',
  'window',
  'document',
  'location',
  'navigator',
  'localStorage',
  'WebSocket',
  'XMLHttpRequest',
  'FormData',
  'File',
  'Blob',
  'FileReader',
  'addEventListener',
];

const compiled = new Map();

function compile(sdk) {
  if (!compiled.has(sdk)) {
    const filename = browserBuild(sdk);
    const names = ['exports', 'require', 'module', 'URL', ...SURROUNDING].join(', ');
    const source = `(function (${names}) {${readFileSync(filename, 'utf8')}\n})`;
    compiled.set(sdk, new vm.Script(source, { filename }));
  }
  return compiled.get(sdk).runInThisContext();
}

/** The file that both Node and a `<script>` load. */
export function browserBuild(sdk) {
  return require.resolve(BUILDS[sdk]);
}

// The SDKs set no `onerror`; without a listener a refused connection would end the process.
class QuietWebSocket extends WebSocket {
  constructor(url) {
    super(url);
    this.on('error', () => {});
  }
}

/** The least that login, messages and JSON calls need. Knows no origin, so it tests no CORS. */
function bareSurrounding() {
  const window = { WebSocket: QuietWebSocket, XMLHttpRequest, navigator: { userAgent: 'node' } };
  return { window, close() {} };
}

/** A whole page, as jsdom plays it: uploads, downloads, stored device ids and CORS with preflights. */
function pageSurrounding() {
  // A console of its own: jsdom would print every refused request.
  const { window } = new JSDOM('<!doctype html>', { url: PAGE, virtualConsole: new VirtualConsole() });
  window.URL.createObjectURL = () => `blob:${PAGE}`;
  return {
    window,
    close: () => window.close(),
  };
}

/**
 * A fresh instance of `sdk` in a surrounding of kind `'bare'` or `'page'`:
 * what the SDK exports, the surrounding's window, and how to close it.
 */
export function loadSdk(sdk, kind) {
  const { window, close } = kind === 'page' ? pageSurrounding() : bareSurrounding();
  window.self ??= window;
  window.window ??= window;
  const module = { exports: {} };
  const surrounding = SURROUNDING.map(name => window[name]);
  // Bound, because jsdom's functions insist on their window.
  const listen = SURROUNDING.indexOf('addEventListener');
  surrounding[listen] = surrounding[listen]?.bind(window);
  compile(sdk)(module.exports, require, module, window.URL ?? URL, ...surrounding);
  const EM = module.exports.default ?? module.exports;
  EM.logger.disableAll();
  return { EM, window, close };
}
