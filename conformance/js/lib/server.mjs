// Starts, stops and restarts one Posthouse on its own data directory.

import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const run = promisify(execFile);
const here = path.dirname(fileURLToPath(import.meta.url));

export const BINARY = path.resolve(
  process.env.POSTHOUSE_BIN ?? path.join(here, '../../../target/release/posthouse'),
);

const START_TIMEOUT_MS = 15_000;
const STOP_TIMEOUT_MS = 15_000;

export class Server {
  /** `tls`: `{ cert, key }` file names, or nothing for plain http. */
  constructor({ dir, tls, log = () => {} }) {
    this.dir = dir;
    this.tls = tls;
    this.log = log;
    this.port = 0;
    this.process = undefined;
  }

  /** `localhost:PORT` with TLS (what the certificate names), else `127.0.0.1:PORT`. */
  get host() {
    return `${this.tls ? 'localhost' : '127.0.0.1'}:${this.port}`;
  }

  get url() {
    return `${this.tls ? 'https' : 'http'}://${this.host}`;
  }

  get webSocketUrl() {
    return `${this.tls ? 'wss' : 'ws'}://${this.host}/`;
  }

  get alive() {
    return this.process !== undefined && this.process.exitCode === null && this.process.signalCode === null;
  }

  async start() {
    const args = ['serve', '--data', this.dir];
    // A restart keeps the port, so that clients find the way back.
    args.push('--listen', `127.0.0.1:${this.port}`, '--admin-listen', '127.0.0.1:0');
    if (this.tls) args.push('--tls-cert', this.tls.cert, '--tls-key', this.tls.key);
    const child = spawn(BINARY, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.process = child;
    createInterface({ input: child.stderr }).on('line', line => this.log(line));
    const lines = createInterface({ input: child.stdout });
    await new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`the server was not ready within ${START_TIMEOUT_MS} ms`)),
        START_TIMEOUT_MS,
      );
      child.once('error', reject);
      child.once('exit', (code, signal) =>
        reject(new Error(`the server ended before it was ready (${code ?? signal})`)),
      );
      lines.on('line', line => {
        this.log(line);
        const ready = /posthouse: ready on https?:\/\/[^:/\s]+:(\d+)/.exec(line);
        if (!ready) return;
        this.port = Number(ready[1]);
        clearTimeout(timer);
        child.removeAllListeners('exit');
        resolve();
      });
    });
  }

  async stop(signal = 'SIGTERM') {
    const child = this.process;
    this.process = undefined;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    const timer = setTimeout(() => child.kill('SIGKILL'), STOP_TIMEOUT_MS);
    await exited;
    clearTimeout(timer);
  }

  /** No server outlives this process, however it ends. */
  endWithProcess() {
    const end = () => {
      this.process?.kill('SIGKILL');
      process.exit(1);
    };
    process.on('SIGTERM', end);
    process.on('SIGINT', end);
    process.on('disconnect', end);
  }

  /** Creates an app; beside a running server it is known within a second. */
  async createApp(name) {
    const { stdout } = await run(BINARY, ['app', 'create', name, '--data', this.dir, '--json']);
    // Scenarios say in a moment what people say in an hour.
    await this.setApp(name, 'preset=unlimited');
    const app = JSON.parse(stdout);
    return { name: app.name, id: app.leancloud_id, key: app.leancloud_key };
  }

  /** Creates an app that also has an Easemob door. */
  async createEasemobApp(name, { appKey, clientId, clientSecret }) {
    const door = ['--easemob-appkey', appKey, '--easemob-client-id', clientId, '--easemob-client-secret', clientSecret];
    const { stdout } = await run(BINARY, ['app', 'create', name, ...door, '--data', this.dir, '--json']);
    await this.setApp(name, 'preset=unlimited');
    const app = JSON.parse(stdout);
    return { name: app.name, id: app.leancloud_id, key: app.leancloud_key, appKey, clientId, clientSecret };
  }

  async setApp(name, setting) {
    await run(BINARY, ['app', 'set', name, setting, '--data', this.dir]);
  }
}

/** A self-signed certificate for localhost, made by openssl. */
export async function makeCertificate(dir) {
  const cert = path.join(dir, 'cert.pem');
  const key = path.join(dir, 'key.pem');
  await run('openssl', [
    'req', '-x509', '-nodes', '-days', '2',
    '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1',
    '-subj', '/CN=localhost',
    '-addext', 'subjectAltName=DNS:localhost,IP:127.0.0.1',
    '-keyout', key, '-out', cert,
  ]);
  return { cert, key };
}
