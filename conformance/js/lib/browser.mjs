// Headless Chromium, and the pages in it that run an SDK's browser build.

import { existsSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';

import { chromium } from 'playwright-core';

const CHROMIUM =
  process.env.CHROMIUM ??
  ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'].find(existsSync);

export function launch() {
  if (!CHROMIUM || !existsSync(CHROMIUM)) {
    throw new Error('There is no Chromium: install it, set CHROMIUM to its path, or say --no-browser.');
  }
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-quic',
      '--no-first-run',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
      '--ignore-certificate-errors',
    ],
  });
}

/** Serves a page that loads `scripts` (path to file), on an origin that is not the server's. */
export async function servePage(scripts) {
  const html = `<!doctype html><meta charset="utf-8">${Object.keys(scripts)
    .map(name => `<script src="${name}"></script>`)
    .join('')}`;
  const pages = createServer((request, response) => {
    const file = scripts[request.url];
    if (file) {
      response.setHeader('content-type', 'text/javascript; charset=utf-8');
      response.end(readFileSync(file));
    } else {
      response.setHeader('content-type', 'text/html; charset=utf-8');
      response.end(request.url === '/' ? html : '');
    }
  });
  await new Promise(resolve => pages.listen(0, '127.0.0.1', resolve));
  return pages;
}

/** A device in `page`: every method is one of `window.device` there. */
export function remoteDevice(page, id) {
  const call = (name, args) =>
    page.evaluate(([method, values]) => window.device[method](...values), [name, args]);
  return new Proxy(
    { id },
    {
      get: (target, name) => {
        // A device is handed around in promises and must not look like one.
        if (name in target || name === 'then') return target[name];
        return (...args) => call(name, args);
      },
    },
  );
}

/** Runs `work` within `timeout`; gives `undefined` or the reason of its failure. */
export async function bounded(work, timeout, complaints) {
  let timer;
  try {
    await Promise.race([
      work(),
      new Promise((resolve, reject) => {
        timer = setTimeout(
          () => reject(new Error(`no end within ${timeout} ms; ${complaints.join('; ')}`)),
          timeout,
        );
      }),
    ]);
    return undefined;
  } catch (error) {
    return error;
  } finally {
    clearTimeout(timer);
  }
}
