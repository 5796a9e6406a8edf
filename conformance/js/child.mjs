// Runs the Node scenarios of one SDK version against one server and reports
// each to the parent: `node child.mjs --sdk 5|4 --dir DIR [--only PATTERN] [--cert F --key F]`.

import dns from 'node:dns';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';

import { Ring, Scenario, play } from './lib/scenario.mjs';
import { Server } from './lib/server.mjs';
import defineSuites from './suites/index.mjs';

dns.setDefaultResultOrder('ipv4first');

const { values: options } = parseArgs({
  options: {
    sdk: { type: 'string' },
    dir: { type: 'string' },
    only: { type: 'string' },
    cert: { type: 'string' },
    key: { type: 'string' },
  },
});

// The SDKs leave promises behind when a connection goes, and warn a lot.
const quiet = () => {};
process.on('unhandledRejection', quiet);
console.warn = quiet;

const logLines = [];
const data = path.join(options.dir, 'data');
mkdirSync(data, { recursive: true });
const tls = options.cert ? { cert: options.cert, key: options.key } : undefined;
const server = new Server({
  dir: data,
  tls,
  log: line => {
    logLines.push(line);
    if (logLines.length > 200) logLines.shift();
  },
});

/** Scenarios of one run that may be tried again; more than these are no accident. */
const SECOND_TRIES_MAX = 3;

async function main() {
  server.endWithProcess();
  const app = await server.createApp('conformance');
  // Wills and presence wait for this long after a lost connection.
  await server.setApp(app.name, 'will_grace_seconds=1');
  await server.start();

  const ring = new Ring();
  defineSuites(ring);
  const pattern = options.only ? new RegExp(options.only) : undefined;
  let secondTries = SECOND_TRIES_MAX;
  for (const entry of ring.scenarios) {
    if (!entry.sdk.includes(options.sdk)) continue;
    if (pattern && !pattern.test(`${entry.suite} / ${entry.scenario}`)) continue;
    const fresh = () => new Scenario({ version: options.sdk, server, app, tls });
    let error = await play(entry, fresh());
    // The SDKs race with themselves: a query they sent for an invitation may overwrite the change that
    // came after it. A second try tells that from a fault of the server, is said aloud, and is bounded.
    if (error && server.process?.exitCode === null && secondTries > 0) {
      secondTries -= 1;
      process.send({ again: `sdk ${options.sdk} ${entry.suite} / ${entry.scenario}: ${error.message ?? error}` });
      error = await play(entry, fresh());
    }
    // A server that died in one scenario must not fail all that follow.
    const died = server.process === undefined || server.process.exitCode !== null;
    const crash = died ? `\nserver: ${logLines.slice(-10).join('\n        ')}` : '';
    process.send({
      sdk: options.sdk,
      suite: entry.suite,
      scenario: entry.scenario,
      outcome: error ? 'fail' : 'pass',
      reason: error && `${error.stack ?? error}${crash}`,
    });
    if (died) await server.start();
  }
}

try {
  await main();
} catch (error) {
  process.send({ fatal: `${error.stack ?? error}\n${logLines.slice(-10).join('\n')}` });
  process.exitCode = 1;
} finally {
  await server.stop();
  // Timers of the SDKs would keep the process for minutes.
  process.removeAllListeners('disconnect');
  process.disconnect();
  setImmediate(() => process.exit());
}
