// The SDK's default way to find the server: the DNS document.

import assert from 'node:assert/strict';

import { BOTH } from './shared.mjs';

/** A device in DNS mode that asks this server where everything is. */
async function discovering(t, label) {
  const [user] = await t.people(label);
  // A page: the SDK derives plain http from the page's own address.
  const device = t.device(user, { kind: 'page', isHttpDNS: true, url: undefined, apiUrl: undefined });
  device.conn.dnsArr = [t.server.url];
  device.conn.dnsTotal = 1;
  return device;
}

export default function discovery(ring) {
  ring.suite('easemob-discovery', scenario => {
    scenario('login and everything after it', async t => {
      const tom = await discovering(t, 'tom');
      await tom.open({ accessToken: await t.rest.userToken(tom.id) });
      assert.equal(tom.conn.apiUrl, t.server.url);
      assert.equal(tom.conn.url, `${t.server.url.replace('http', 'ws')}/websocket`);
      const jerry = await t.open('jerry');
      await tom.say(jerry.id, 'found you');
      await t.message(jerry, 'found you');
      assert.deepEqual(await tom.texts(jerry.id), ['found you']);
      assert.deepEqual(await tom.peers(), [jerry.id]);
    }, BOTH);

    scenario('login with a password', async t => {
      const user = t.name('pwd');
      await t.rest.register({ username: user, password: 'secret' });
      const device = t.device(user, { kind: 'page', isHttpDNS: true, url: undefined, apiUrl: undefined });
      device.conn.dnsArr = [t.server.url];
      device.conn.dnsTotal = 1;
      await device.open({ pwd: 'secret' });
      assert.deepEqual(await device.peers(), []);
    });

    scenario('the document', async t => {
      const response = await fetch(`${t.server.url}/easemob/server.json?app_key=${encodeURIComponent(t.app.appKey)}&_v=1`);
      assert.equal(response.status, 200);
      assert.match(response.headers.get('content-type'), /^application\/json/);
      const document = await response.json();
      assert.equal(document.enableDataReport, 'false');
      const port = Number(new URL(t.server.url).port);
      for (const part of ['rest', 'msync-wx']) {
        const plain = document[part].hosts.find(({ protocol }) => protocol === 'http');
        assert.equal(plain.domain, '127.0.0.1');
        assert.equal(Number(plain.port), port);
      }
    });
  });
}
