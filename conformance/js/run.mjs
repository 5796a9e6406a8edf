// The official-SDK conformance ring: `node run.mjs [--only PATTERN] [--sdk 5|4|easemob|agora-chat]
// [--browser | --no-browser] [--accept]`. See README.md.

import { fork } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

import { BINARY, makeCertificate } from './lib/server.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const RESULTS = path.join(here, 'results.jsonl');
const DEVIATIONS = path.join(here, 'deviations.json');
const WHOLE_RING_MS = 240_000;

const { values: options } = parseArgs({
  options: {
    only: { type: 'string' },
    sdk: { type: 'string' },
    browser: { type: 'boolean' },
    'no-browser': { type: 'boolean' },
    accept: { type: 'boolean' },
  },
});

const versions = options.sdk ? [options.sdk] : ['5', '4', 'easemob', 'agora-chat'];
const EASEMOB = ['easemob', 'agora-chat'];
const whole = !options.only && !options.sdk && !options.browser && !options['no-browser'];

if (!existsSync(BINARY)) {
  console.error(`There is no server at ${BINARY}: build it with "cargo build --release", or set POSTHOUSE_BIN.`);
  process.exit(1);
}

const dir = mkdtempSync(path.join(os.tmpdir(), 'posthouse-conformance-'));
const results = [];
const fatal = [];
const again = [];
const running = new Set();

function report({ reason, ...line }) {
  results.push(line);
  console.log(`${line.outcome} sdk ${line.sdk} ${line.suite} / ${line.scenario}`);
  if (reason) console.log(`     ${reason.replaceAll('\n', '\n     ')}`);
}

function runChild(script, label, args, tls) {
  const home = path.join(dir, label);
  mkdirSync(home);
  const env = { ...process.env };
  if (tls) env.NODE_EXTRA_CA_CERTS = tls.cert;
  const all = [...args, '--dir', home];
  if (tls) all.push('--cert', tls.cert, '--key', tls.key);
  if (options.only) all.push('--only', options.only);
  return new Promise(resolve => {
    const child = fork(path.join(here, script), all, { env });
    running.add(child);
    const timer = setTimeout(() => {
      fatal.push(`${label}: not done within ${WHOLE_RING_MS / 1000} s`);
      child.kill('SIGTERM');
    }, WHOLE_RING_MS);
    child.on('message', message => {
      if (message.fatal) {
        fatal.push(`${label}: ${message.fatal}`);
      } else if (message.again) {
        again.push(message.again);
        console.log(`again ${message.again}`);
      } else {
        report(message);
      }
    });
    child.on('exit', (code, signal) => {
      clearTimeout(timer);
      running.delete(child);
      if (code !== 0 && !fatal.length) fatal.push(`${label}: ended with ${code ?? signal}`);
      resolve();
    });
  });
}

const keyOf = ({ sdk, suite, scenario }) => JSON.stringify([sdk, suite, scenario]);

function readResults() {
  if (!existsSync(RESULTS)) return [];
  return readFileSync(RESULTS, 'utf8')
    .split('\n')
    .filter(Boolean)
    .map(line => JSON.parse(line));
}

/** What this run and the committed results and deviations disagree on. */
function differences(committed, deviations) {
  const found = [];
  const now = new Map(results.map(line => [keyOf(line), line]));
  const before = new Map(committed.map(line => [keyOf(line), line]));
  const listed = new Map(deviations.map(line => [keyOf(line), line]));
  for (const [key, line] of now) {
    const allowed = listed.has(key);
    if (line.outcome === 'fail' && !allowed) found.push(`fails: ${key}`);
    if (line.outcome === 'pass' && allowed) found.push(`passes but is listed as a deviation: ${key}`);
    if (committed.length && !options.accept) {
      const old = before.get(key);
      if (!old) found.push(`not in results.jsonl: ${key}`);
      else if (old.outcome !== line.outcome) found.push(`was ${old.outcome}, is ${line.outcome}: ${key}`);
    }
  }
  if (whole && !options.accept) {
    for (const key of before.keys()) if (!now.has(key)) found.push(`did not run: ${key}`);
  }
  return found;
}

async function main() {
  const tls = await makeCertificate(dir);
  const runs = [];
  if (!options.browser) {
    if (versions.includes('5')) runs.push(runChild('child.mjs', 'sdk-5', ['--sdk', '5']));
    if (versions.includes('4')) runs.push(runChild('child.mjs', 'sdk-4', ['--sdk', '4'], tls));
  }
  await Promise.all(runs);
  const easemob = versions.filter(version => EASEMOB.includes(version));
  if (!options.browser) {
    await Promise.all(easemob.map(sdk => runChild('easemob.mjs', sdk, ['--sdk', sdk])));
  }
  if (!options['no-browser']) {
    for (const version of versions) {
      const script = EASEMOB.includes(version) ? 'easemob-browser.mjs' : 'browser.mjs';
      await runChild(script, `browser-${version}`, ['--sdk', version], version === '4' ? tls : undefined);
    }
  }

  const committed = readResults();
  const deviations = JSON.parse(readFileSync(DEVIATIONS, 'utf8'));
  const found = [...fatal, ...differences(committed, deviations)];
  if (whole && !fatal.length) {
    const lines = results
      .map(({ sdk, suite, scenario, outcome }) => JSON.stringify({ sdk, suite, scenario, outcome }))
      .sort();
    writeFileSync(RESULTS, `${lines.join('\n')}\n`);
  }
  const passed = results.filter(line => line.outcome === 'pass').length;
  for (const line of found) console.log(`difference: ${line}`);
  if (results.length === 0 && !fatal.length) console.log('difference: no scenario matched');
  if (again.length) console.log(`${again.length} tried a second time, see the lines "again" above`);
  console.log(`${passed} passed, ${results.length - passed} failed`);
  process.exitCode = found.length || results.length === 0 ? 1 : 0;
}

process.on('SIGTERM', () => {
  for (const child of running) child.kill('SIGTERM');
  process.exit(1);
});

try {
  await main();
} finally {
  rmSync(dir, { recursive: true, force: true });
}
