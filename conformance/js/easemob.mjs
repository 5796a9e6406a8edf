// Runs the Node scenarios of one Easemob SDK against one server and reports
// each to the parent: `node easemob.mjs --sdk easemob|agora-chat --dir DIR [--only PATTERN]`.

import dns from 'node:dns';
import { mkdirSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';

import { Scenario } from './lib/easemob/scenario.mjs';
import { browserBuild } from './lib/easemob/sdk.mjs';
import { Player, Ring } from './lib/scenario.mjs';
import { Server } from './lib/server.mjs';
import defineSuites from './suites/easemob/index.mjs';

dns.setDefaultResultOrder('ipv4first');

/** Scenarios wait more than they compute. */
const LANES = 4;

const { values: options } = parseArgs({
  options: {
    sdk: { type: 'string' },
    dir: { type: 'string' },
    only: { type: 'string' },
  },
});

console.warn = () => {};

// The SDKs leave refused promises behind when a connection goes; those carry
// plain objects. An exception of theirs says that the server sent what they cannot read.
const stumbles = [];
process.on('unhandledRejection', reason => {
  if (reason instanceof Error && reason.stack.includes(browserBuild(options.sdk))) stumbles.push(reason.stack);
});

const logLines = [];
const data = path.join(options.dir, 'data');
mkdirSync(data, { recursive: true });
const server = new Server({
  dir: data,
  log: line => {
    logLines.push(line);
    if (logLines.length > 200) logLines.shift();
  },
});

/** One app for each set of settings that the scenarios name, before the server starts. */
async function createApps(entries) {
  const apps = new Map();
  for (const { settings } of entries) {
    const key = JSON.stringify(settings);
    if (apps.has(key)) continue;
    const name = `conformance-${apps.size}`;
    const app = await server.createEasemobApp(name, {
      appKey: `posthouse#${name}`,
      clientId: `id-of-${name}`,
      clientSecret: `secret-of-${name}`,
    });
    for (const [setting, value] of Object.entries(settings)) await server.setApp(name, `${setting}=${value}`);
    apps.set(key, app);
  }
  return apps;
}

async function main() {
  server.endWithProcess();
  const ring = new Ring({ sdk: ['easemob'], settings: {}, alone: false });
  defineSuites(ring);
  const pattern = options.only ? new RegExp(options.only) : undefined;
  const entries = ring.scenarios.filter(
    ({ sdk, suite, scenario }) =>
      sdk.includes(options.sdk) && (!pattern || pattern.test(`${suite} / ${scenario}`)),
  );
  if (entries.length === 0) return;
  const apps = await createApps(entries);
  await server.start();

  const player = new Player({
    sdk: options.sdk,
    server,
    tell: message => process.send(message),
    log: logLines,
  });
  const work = async queue => {
    for (let entry = queue.shift(); entry; entry = queue.shift()) {
      const app = apps.get(JSON.stringify(entry.settings));
      const fresh = () => new Scenario({ sdk: options.sdk, server, app });
      if (!(await player.play(entry, fresh))) throw new Error('the server died');
    }
  };
  const together = entries.filter(({ alone }) => !alone);
  await Promise.all(Array.from({ length: LANES }, () => work(together)));
  // Those that restart the server come last and one by one.
  await work(entries.filter(({ alone }) => alone));

  if (!pattern) {
    process.send({
      sdk: options.sdk,
      suite: 'easemob-sdk',
      scenario: 'stumbles over nothing that the server sends',
      outcome: stumbles.length > 0 ? 'fail' : 'pass',
      reason: stumbles.length > 0 ? stumbles.slice(0, 3).join('\n') : undefined,
    });
  } else if (stumbles.length > 0) {
    throw new Error(`the SDK stumbled:\n${stumbles.slice(0, 3).join('\n')}`);
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
