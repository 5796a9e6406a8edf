// Logging in, and what stands in its way.

import assert from 'node:assert/strict';

import { BOTH } from './shared.mjs';

/** Registers a user with a password; gives the name. */
async function withPassword(t, label, password = 'secret') {
  const username = t.name(label);
  await t.rest.register({ username, password });
  return username;
}

export default function login(ring) {
  ring.suite('easemob-login', scenario => {
    scenario('with a password', async t => {
      const user = await withPassword(t, 'tom');
      const device = t.device(user);
      const { accessToken, duration } = await device.open({ pwd: 'secret' });
      assert.ok(accessToken.length > 20);
      assert.equal(duration, 5_184_000);
      await t.event(device, 'onConnected');
      assert.equal(device.resource, `webim_web_${device.conn.deviceId}`);
      assert.deepEqual(await device.peers(), []);
    }, BOTH);

    scenario('with a token', async t => {
      const device = await t.open('tom');
      await t.event(device, 'onConnected');
      assert.equal(device.conn.isOpened(), true);
      assert.deepEqual(await device.list(), []);
    }, BOTH);

    scenario('with the agoraToken option', async t => {
      const [user] = await t.people('tom');
      const device = t.device(user);
      await device.open({ agoraToken: await t.rest.userToken(user) });
      assert.deepEqual(await device.peers(), []);
    });

    scenario('under a whole page, which asks before it sends', async t => {
      const tom = await t.open('tom', { kind: 'page' });
      const jerry = await t.open('jerry', { kind: 'page' });
      const id = await tom.say(jerry.id, 'from page to page');
      assert.equal((await t.message(jerry, 'from page to page')).id, id);
      assert.equal((await jerry.entry(tom.id)).unread_num, 1);
      assert.deepEqual(await jerry.texts(tom.id), ['from page to page']);
      await jerry.removeMessages(tom.id, { messageIds: [id] });
      await jerry.removeConversation(tom.id, true);
      assert.deepEqual(await jerry.peers(), []);
    });

    scenario('a page that reads an error of another origin', async t => {
      const tom = await t.open('tom', { kind: 'page' });
      const refusal = tom.list({ pageNum: 1, pageSize: 21 });
      const { message } = await t.refused(refusal, 17);
      assert.ok(message);
    });

    scenario('the case of a name makes no difference', async t => {
      const user = await withPassword(t, 'tom');
      const device = t.device(user.toUpperCase());
      await device.open({ pwd: 'secret' });
      const jerry = await t.open('jerry');
      await device.say(jerry.id.toUpperCase(), 'hello');
      assert.equal((await t.message(jerry, 'hello')).from, user);
    });

    scenario('a wrong password', async t => {
      const user = await withPassword(t, 'tom');
      const error = await t.refused(t.device(user).open({ pwd: 'other' }), 1);
      assert.equal(error.message, 'invalid password');
      assert.equal(error.data.type, 17);
    }, BOTH);

    scenario('a password for somebody who has none', async t => {
      const [user] = await t.people('tom');
      const error = await t.refused(t.device(user).open({ pwd: 'other' }), 1);
      assert.equal(error.message, 'invalid password');
    });

    scenario('an unknown user', async t => {
      const error = await t.refused(t.device(t.name('nobody')).open({ pwd: 'secret' }), 1);
      assert.equal(error.message, 'user not found');
      assert.equal(error.data.type, 204);
    }, BOTH);

    scenario('a user who was put out of action', async t => {
      const user = await withPassword(t, 'tom');
      const token = await t.rest.userToken(user);
      await t.rest.ok('POST', `/users/${user}/deactivate`);
      const error = await t.refused(t.device(user).open({ pwd: 'secret' }), 1);
      assert.equal(error.message, 'user not activated');
      const device = t.device(user);
      await t.refused(device.open({ accessToken: token }), 57);
      await t.rest.ok('POST', `/users/${user}/activate`);
      await t.device(user).open({ pwd: 'secret' });
    });

    for (const [what, forge] of [
      ['that is no token', async () => 'nonsense'],
      ['whose signature was changed', async (t, user) => {
        const token = await t.rest.userToken(user);
        const at = token.length - 5;
        return `${token.slice(0, at)}${token[at] === 'A' ? 'B' : 'A'}${token.slice(at + 1)}`;
      }],
      ['of another user', async t => t.rest.userToken((await t.people('eve'))[0])],
      ['of the app', async t => t.rest.token()],
    ]) {
      scenario(`a token ${what}`, async t => {
        const [user] = await t.people('tom');
        const device = t.device(user);
        const error = await t.refused(device.open({ accessToken: await forge(t, user) }), 28);
        assert.ok(error.message);
        assert.equal(device.conn.isOpened(), false);
      }, BOTH);
    }

    scenario('a token that is over', async t => {
      const [user] = await t.people('tom');
      const accessToken = await t.rest.userToken(user, 1);
      await t.until('the token is over', async () => {
        const { status } = await t.rest.call('GET', `/users/${user}/user_channels`, { token: accessToken });
        return status === 401;
      });
      await t.refused(t.device(user).open({ accessToken }), 56);
    });

    scenario('a token of a user who is gone', async t => {
      const [user] = await t.people('tom');
      const accessToken = await t.rest.userToken(user);
      await t.rest.ok('DELETE', `/users/${user}`);
      await t.refused(t.device(user).open({ accessToken }), 204);
    });

    scenario('an unknown app', async t => {
      const [user] = await t.people('tom');
      const accessToken = await t.rest.userToken(user);
      const device = t.device(user, { appKey: 'posthouse#nowhere' });
      const error = await t.refused(device.open({ accessToken }), 2);
      assert.ok(error.message);
      const refused = await t.refused(t.device(user, { appKey: 'posthouse#nowhere' }).open({ pwd: 'x' }), 1);
      assert.match(refused.data.message, /Could not find application for posthouse\/nowhere/);
    });

    scenario('a dynamic token, made by the back end itself', async t => {
      const { createHash } = await import('node:crypto');
      const [user] = await t.people('tom');
      const { appKey, clientId, clientSecret } = t.app;
      const dynamic = (curTime, secret = clientSecret) => {
        const ttl = 600;
        const text = `${clientId}${appKey}${user}${curTime}${ttl}${secret}`;
        const signature = createHash('sha256').update(text).digest('hex');
        const json = JSON.stringify({ signature, appkey: appKey, userId: user, curTime, ttl });
        return Buffer.from(`dt-${json}`).toString('base64url');
      };
      const now = Math.floor(Date.now() / 1000);
      const device = t.device(user);
      await device.open({ accessToken: dynamic(now) });
      assert.deepEqual(await device.peers(), []);
      await t.refused(t.device(user).open({ accessToken: dynamic(now, 'wrong') }), 28);
      await t.refused(t.device(user).open({ accessToken: dynamic(now - 700) }), 56);
    });

    scenario('a token that runs out while the device is online', async t => {
      const [user] = await t.people('tom');
      const device = t.device(user);
      await device.open({ accessToken: await t.rest.userToken(user, 2) });
      await t.event(device, 'onTokenWillExpire');
      await t.event(device, 'onTokenExpired');
      await t.event(device, 'onDisconnected');
      assert.equal(device.conn.isOpened(), false);
    });

    scenario('a token that is renewed in time', async t => {
      const [user] = await t.people('tom');
      const device = t.device(user);
      await device.open({ accessToken: await t.rest.userToken(user, 3) });
      await t.event(device, 'onTokenWillExpire');
      const token = await t.rest.userToken(user);
      const renewed = await device.conn.renewToken(token);
      assert.equal(renewed.status, true);
      assert.equal(renewed.token, token);
      const left = renewed.expire - Date.now();
      assert.ok(left > 5_183_000_000 && left < 5_185_000_000, `${left} ms left`);
      const jerry = await t.open('jerry');
      await device.say(jerry.id, 'still here');
      await t.message(jerry, 'still here');
      assert.deepEqual(t.seen(device, 'onTokenExpired'), []);
    });

    scenario('renewing with a token that is none', async t => {
      const device = await t.open('tom');
      await t.refused(device.conn.renewToken('nonsense'), 17);
      const [eve] = await t.people('eve');
      const foreign = await t.rest.userToken(eve);
      await assert.rejects(device.conn.renewToken(foreign), error => error.type !== undefined && error.status !== true);
      assert.deepEqual(await device.peers(), []);
    });

    scenario('registering is closed to strangers', async t => {
      const { conn } = t.device(t.name('tom'));
      const refusal = conn.registerUser({ username: t.name('tom'), password: 'secret' });
      const error = await t.refused(refusal, 17);
      assert.match(error.message, /Open registration doesn't allow, so register user need token/);
    });

    scenario('registering, where it is open', async t => {
      const user = t.name('tom');
      const { conn } = t.device(user);
      const { entities } = await conn.registerUser({ username: user, password: 'secret', nickname: 'Tom' });
      assert.equal(entities[0].username, user);
      assert.equal(entities[0].activated, true);
      await t.device(user).open({ pwd: 'secret' });
      const again = await t.refused(conn.registerUser({ username: user, password: 'other' }), 17);
      assert.match(again.message, /requires that property named username be unique, value of .* exists/);
      const odd = await t.refused(conn.registerUser({ username: 'tom and jerry', password: 'other' }), 17);
      assert.equal(odd.message, 'username [tom and jerry] is not legal');
      await t.device(user).open({ pwd: 'secret' });
    }, { settings: { registration_open: true }, ...BOTH });

    for (const [what, username] of [
      ['with a blank', 'tom cat'],
      ['with a letter of another script', '汤姆'],
      ['with a slash', 'tom/web'],
      ['of nothing', ''],
    ]) {
      scenario(`a name ${what} cannot be registered`, async t => {
        const { error, error_description: why } = await t.rest.fails(400, 'POST', '/users', { body: { username, password: 'x' } });
        assert.equal(error, 'illegal_argument');
        assert.match(why, /is not legal|requires a property named username/);
        await t.rest.fails(404, 'GET', `/users/${encodeURIComponent(username || 'nobody-at-all')}`);
      });
    }

    scenario('a name of 64 characters, and one of 65', async t => {
      const longest = `${t.name('n')}-`.padEnd(64, 'x');
      const [entity] = await t.rest.register(longest);
      assert.equal(entity.username, longest);
      const { error } = await t.rest.fails(400, 'POST', '/users', { body: { username: `${longest}x`, password: 'x' } });
      assert.equal(error, 'illegal_argument');
    });

    scenario('a new password: the old token and the old password are void', async t => {
      const user = await withPassword(t, 'tom');
      const accessToken = await t.rest.userToken(user);
      await t.rest.ok('PUT', `/users/${user}/password`, { body: { newpassword: 'fresh' } });
      await t.refused(t.device(user).open({ accessToken }), 28);
      await t.refused(t.device(user).open({ pwd: 'secret' }), 1);
      await t.device(user).open({ pwd: 'fresh' });
    });
  });
}
