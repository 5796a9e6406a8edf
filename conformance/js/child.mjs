// Runs the Node scenarios of one SDK version against one server and reports
// each to the parent: `node child.mjs --sdk 5|4 --dir DIR [--only PATTERN] [--cert F --key F]`.

import dns from 'node:dns';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';

import { Player, Ring, Scenario } from './lib/scenario.mjs';
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

async function main() {
  server.endWithProcess();
  const app = await server.createApp('conformance');
  // Wills and presence wait for this long after a lost connection.
  await server.setApp(app.name, 'will_grace_seconds=1');
  await server.start();

  const ring = new Ring();
  defineSuites(ring);
  const pattern = options.only ? new RegExp(options.only) : undefined;
  const player = new Player({
    sdk: options.sdk,
    server,
    tell: message => process.send(message),
    log: logLines,
  });
  for (const entry of ring.scenarios) {
    if (!entry.sdk.includes(options.sdk)) continue;
    if (pattern && !pattern.test(`${entry.suite} / ${entry.scenario}`)) continue;
    const fresh = () => new Scenario({ version: options.sdk, server, app, tls });
    // A server that died in one scenario must not fail all that follow.
    if (!(await player.play(entry, fresh))) await server.start();
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
