// Loads the official SDKs. Version 5 allows one `Realtime` per app and module
// instance, so every device of a scenario gets an instance of its own.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import vm from 'node:vm';

const require = createRequire(import.meta.url);

const PACKAGES = { 5: 'leancloud-realtime', 4: 'leancloud-realtime-4' };

const compiled = new Map();

/** A fresh instance of SDK version `'5'` or `'4'`. */
export function loadSdk(version) {
  const name = PACKAGES[version];
  const file = require.resolve(name);
  if (!compiled.has(file)) {
    const source = `(function (exports, require, module) {${readFileSync(file, 'utf8')}\n})`;
    compiled.set(file, new vm.Script(source, { filename: file }));
  }
  const module = { exports: {} };
  const evaluate = compiled.get(file).runInThisContext();
  evaluate.call(module.exports, module.exports, createRequire(file), module);
  return module.exports;
}

/** The folder of the SDK's package, for code that must `require` it by name. */
export function packageFolder(version) {
  return require.resolve(`${PACKAGES[version]}/package.json`).replace(/\/package\.json$/, '');
}

/** The browser build of the SDK. */
export function browserBuild(version) {
  const file = version === '5' ? 'dist/im-browser.js' : 'dist/realtime.browser.js';
  return `${packageFolder(version)}/${file}`;
}
