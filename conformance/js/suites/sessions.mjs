// Logging in, out and back in; several devices; tags; tokens.

import assert from 'node:assert/strict';

import { create, seenBy, sendTexts } from './shared.mjs';

export default function sessions(ring) {
  ring.suite('sessions', scenario => {
    scenario('open and close', async t => {
      const tom = await t.open('tom');
      assert.equal(tom.id, t.name('tom'));
      await tom.close();
      const jerry = await t.open('jerry');
      assert.deepEqual(await jerry.ping([t.name('tom'), jerry.id]), [jerry.id]);
    });

    scenario('an anonymous client gets an id from the server', async t => {
      const tom = await t.open('tom');
      const nameless = await t.device().realtime.createIMClient();
      assert.ok(nameless.id.length > 0);
      assert.deepEqual(await tom.ping([nameless.id]), [nameless.id]);
      await nameless.close();
    });

    scenario('the base64 text framing', async t => {
      const tom = await t.open('tom', { device: t.device({ noBinary: true }) });
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'temporary', tom, 'jerry');
      await sendTexts(t, tom, conversation, '文本帧');
      const [, atJerry] = await t.message(jerry, '文本帧');
      await atJerry.send(t.text(jerry, 'answer'));
      await t.message(tom, 'answer');
    });

    scenario('several clients on one socket', async t => {
      const device = t.device();
      const tom = await t.open('tom', { device });
      const jerry = await t.open('jerry', { device });
      assert.equal(tom._connection, jerry._connection);
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await sendTexts(t, tom, conversation, 'same socket');
      const [message] = await t.message(jerry, 'same socket');
      assert.equal(message.from, tom.id);
      await tom.close();
      assert.deepEqual(await jerry.ping([tom.id, jerry.id]), [jerry.id]);
    });

    scenario('several devices of one client all receive', async t => {
      const tom = await t.open('tom');
      const phone = await t.open('jerry');
      const desk = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await sendTexts(t, tom, conversation, 'everywhere');
      await t.message(phone, 'everywhere');
      await t.message(desk, 'everywhere');
      await phone.close();
      assert.deepEqual(await tom.ping([desk.id]), [desk.id]);
      await sendTexts(t, tom, conversation, 'still there');
      await t.message(desk, 'still there');
    });

    scenario('who is online, for twenty ids', async t => {
      const tom = await t.open('tom');
      const others = Array.from({ length: 18 }, (_, index) => t.name(`nobody${index}`));
      const jerry = await t.open('jerry');
      const online = await tom.ping([...others, jerry.id, tom.id]);
      assert.deepEqual([...online].sort(), [jerry.id, tom.id].sort());
      assert.deepEqual(await tom.ping(others), []);
    });

    scenario('the same tag elsewhere displaces the older device, which is told why', async t => {
      const older = await t.open('tom', { tag: 'mobile' });
      const newer = await t.open('tom', { tag: 'mobile' });
      const [payload] = await t.event(older, 'conflict');
      assert.equal(payload.reason, 'SESSION_CONFLICT');
      assert.deepEqual(await newer.ping([newer.id]), [newer.id]);
    });

    scenario('different tags and no tag live side by side', async t => {
      const mobile = await t.open('tom', { tag: 'mobile' });
      const web = await t.open('tom', { tag: 'web' });
      const plain = await t.open('tom');
      const another = await t.open('tom');
      for (const device of [mobile, web, plain, another]) await t.barrier(device);
      for (const device of [mobile, web, plain, another]) {
        assert.deepEqual(t.seen(device, 'conflict'), []);
      }
    });

    scenario('resuming where another device holds the tag is refused with 4111', async t => {
      const holder = await t.open('tom', { tag: 'mobile' });
      const elsewhere = await t.open('jerry');
      const answer = await t.raw(elsewhere, {
        cmd: 'session',
        op: 'open',
        appId: t.app.id,
        peerId: holder.id,
        sessionMessage: { ua: 'js/conformance', r: true, tag: 'mobile', deviceId: 'another' },
      });
      assert.equal(answer.op, elsewhere.AV.Protocals.OpType.closed);
      assert.equal(answer.sessionMessage.code, 4111);
      await t.barrier(holder);
      assert.deepEqual(t.seen(holder, 'conflict'), []);
    });

    scenario('a displaced device that reconnects learns of the conflict', async t => {
      const older = await t.open('tom', { tag: 'mobile' });
      t.lose(older);
      const newer = await t.open('tom', { tag: 'mobile' });
      const connection = older._connection;
      connection.resume();
      connection.retry();
      const [error] = await t.event(older, 'reconnecterror');
      assert.equal(error.code, 4111);
      assert.deepEqual(t.seen(newer, 'conflict'), []);
    });

    scenario('reconnects after the socket drops, and messages flow again', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await sendTexts(t, tom, conversation, 'before');
      await t.message(jerry, 'before');
      await t.drop(jerry);
      await sendTexts(t, tom, conversation, 'after');
      await t.message(jerry, 'after');
      await t.drop(tom);
      await sendTexts(t, tom, conversation, 'from the other side');
      await t.message(jerry, 'from the other side');
    });

    scenario('reconnects by itself when only the socket is closed', async t => {
      const tom = await t.open('tom');
      tom._connection._ws.close();
      await t.event(tom, 'disconnect');
      await t.event(tom, 'reconnect');
      assert.deepEqual(await tom.ping([tom.id]), [tom.id]);
    });

    scenario('a refused token (4112) leads to a fresh session', async t => {
      const tom = await t.open('tom');
      const before = await tom._sessionManager.getSessionToken();
      tom._sessionManager.setSessionToken('not-a-token-of-this-server', 3600);
      await t.drop(tom);
      const after = await tom._sessionManager.getSessionToken();
      assert.notEqual(after, 'not-a-token-of-this-server');
      assert.ok(before && after);
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await sendTexts(t, tom, conversation, 'still me');
    });

    scenario("another client's token is refused with 4112", async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const st = await tom._sessionManager.getSessionToken();
      await t.refused(
        t.raw(jerry, {
          cmd: 'session',
          op: 'open',
          appId: t.app.id,
          peerId: jerry.id,
          sessionMessage: { ua: 'js/conformance', r: true, st },
        }),
        4112,
      );
    });

    // Neither SDK survives its own refresh (both spread or drop the answer), so the command is sent by hand.
    scenario('refresh gives a new token that works', async t => {
      const tom = await t.open('tom');
      const st = await tom._sessionManager.getSessionToken();
      const answer = await t.raw(tom, {
        cmd: 'session',
        op: 'refresh',
        sessionMessage: { ua: 'js/conformance', st },
      });
      const token = answer.sessionMessage.st;
      assert.equal(typeof token, 'string');
      assert.ok(token.length > 0 && answer.sessionMessage.stTtl > 0);
      tom._sessionManager.setSessionToken(token, answer.sessionMessage.stTtl);
      await t.drop(tom);
      assert.deepEqual(await tom.ping([tom.id]), [tom.id]);
    });

    scenario('opened carries the server time, a token and its time to live', async t => {
      const tom = await t.open('tom');
      const answer = await t.raw(tom, {
        cmd: 'session',
        op: 'open',
        appId: t.app.id,
        peerId: tom.id,
        sessionMessage: { ua: 'js/conformance', r: true },
      });
      assert.equal(answer.peerId, tom.id);
      assert.ok(Math.abs(Number(answer.serverTs) - Date.now()) < 60_000);
      assert.ok(answer.sessionMessage.st);
      assert.ok(answer.sessionMessage.stTtl > 0 && answer.sessionMessage.stTtl <= 2_147_483);
      assert.equal(answer.sessionMessage.code, null);
    });

    scenario('echo is answered on its serial', async t => {
      const tom = await t.open('tom');
      const answer = await t.raw(tom, { cmd: 'echo' });
      assert.equal(answer.cmd, tom.AV.Protocals.CommandType.echo);
    });

    scenario('the route names both servers as JSON', async t => {
      const answer = await fetch(
        `${t.server.url}/v1/route?appId=${t.app.id}&secure=${Boolean(t.tls)}`,
        { headers: { origin: 'http://example.com' } },
      );
      assert.match(answer.headers.get('content-type'), /^application\/json/);
      assert.ok(answer.headers.get('access-control-allow-origin'));
      const body = await answer.json();
      assert.equal(typeof body.ttl, 'number');
      assert.match(body.server, t.tls ? /^wss:\/\// : /^ws:\/\//);
      assert.match(body.secondary, t.tls ? /^wss:\/\// : /^ws:\/\//);
      const doubled = await fetch(`${t.server.url}//v1/route?appId=${t.app.id}&secure=true`);
      assert.equal(doubled.status, 200);
      const unknown = await fetch(`${t.server.url}/v1/route?appId=unknown&secure=true`);
      assert.equal(unknown.status, 404);
    });

    scenario('an SDK that is told nothing of TLS reaches a plain server', async t => {
      // The SDK asks with secure=true unless the app says otherwise.
      const tom = await t.open('tom', { device: t.device({ ssl: true }) });
      assert.deepEqual(await tom.ping([tom.id]), [tom.id]);
    }, { sdk: ['5'] });

    scenario('the WebSocket may be named without the route', async t => {
      const tom = await t.open('tom', {
        device: t.device({ RTMServers: `${t.server.webSocketUrl}some/path?and=query` }),
      });
      const jerry = await t.open('jerry');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await sendTexts(t, tom, conversation, 'direct');
      assert.ok(await seenBy(jerry, conversation));
    });
  });
}
