// What bad input gets: an error that the SDK understands, never a hung promise.

import assert from 'node:assert/strict';

import { BOTH, bearer, talk } from './shared.mjs';

export default function errors(ring) {
  ring.suite('easemob-errors', scenario => {
    scenario('sending into a group that one is not in', async t => {
      const [tom, jerry, eve] = await t.openAll('tom', 'jerry', 'eve');
      const group = await t.rest.group(tom.id, [jerry.id]);
      await t.refused(eve.sayIn(group, 'let me in'), 602);
      await t.barrier(tom);
      assert.deepEqual(t.messages(tom), []);
      assert.deepEqual(await tom.texts(group, { chatType: 'groupChat' }), []);
      assert.deepEqual(await eve.peers(), []);
    }, BOTH);

    for (const id of ['123456789012', '0', '18446744073709551615', 'abc']) {
      scenario(`sending into a group that is not there: ${id}`, async t => {
        const tom = await t.open('tom');
        await t.refused(tom.sayIn(id, 'hello?'), 605);
        assert.deepEqual(await tom.peers(), []);
      }, id === '0' ? BOTH : {});
    }

    scenario('a single chat is no group', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await tom.say(jerry.id, 'hello');
      const { data } = await t.rest.ok('GET', `/users/${tom.id}/user_channels`);
      assert.equal(data.channel_infos.length, 1);
      await t.refused(tom.sayIn(jerry.id, 'hello?'), 605);
    });

    scenario('a message that is too large', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await t.refused(tom.say(jerry.id, 'x'.repeat(6_000)), 511);
      await t.refused(tom.say(jerry.id, 'x', { ext: { big: '长'.repeat(2_000) } }), 511);
      await tom.say(jerry.id, 'small');
      await t.message(jerry, 'small');
      await t.barrier(jerry);
      assert.deepEqual(t.messages(jerry), []);
      assert.deepEqual(await jerry.texts(tom.id), ['small']);
    }, BOTH);

    scenario('a larger message where the app allows it', async t => {
      const { tom, jerry } = await talk(t, 'single');
      // Together with the server's largest frame, which is 64 KiB.
      const text = '长'.repeat(15_000);
      await tom.say(jerry.id, text);
      await t.message(jerry, text);
      assert.deepEqual(await jerry.texts(tom.id), [text]);
    }, { settings: { message_bytes_max: 200_000 } });

    for (const to of ['a b', '汤姆', 'x'.repeat(65), 'tom@example']) {
      scenario(`sending to a name that is none: ${to.slice(0, 12)}`, async t => {
        const tom = await t.open('tom');
        await t.refused(tom.say(to, 'hello?'), 204);
        assert.equal(tom.conn.isOpened(), true);
        assert.deepEqual(await tom.peers(), []);
      });
    }

    scenario('chat rooms are not offered', async t => {
      const tom = await t.open('tom');
      await t.refused(tom.conn.joinChatRoom({ roomId: '2001' }), 705);
      await t.refused(tom.conn.getChatRooms({ pagenum: 1, pagesize: 20 }), 505);
      await t.refused(tom.send({ type: 'txt', msg: 'x', to: '2001', chatType: 'chatRoom' }), 705);
    }, BOTH);

    scenario('messages for some of a group are not offered', async t => {
      const { tom, jerry, group } = await talk(t, 'group');
      await t.refused(tom.sayIn(group, 'psst', { receiverList: [jerry.id] }), 503);
      await t.barrier(jerry);
      assert.deepEqual(t.messages(jerry), []);
      assert.deepEqual(await tom.texts(group, { chatType: 'groupChat' }), []);
    });

    for (const [what, call] of [
      ['presence', ({ conn }) => conn.publishPresence({ description: 'busy' })],
      ['reactions', ({ conn }) => conn.addReaction({ messageId: '1', reaction: 'ok' })],
      ['threads', ({ conn }) => conn.createChatThread({ name: 'x', messageId: '1', parentId: '2' })],
      ['silent mode', ({ conn }) => conn.getSilentModeForAll()],
      ['translation', ({ conn }) => conn.getSupportedLanguages()],
      ['pinned messages', ({ conn }) => conn.pinMessage({ conversationId: '1', conversationType: 'groupChat', messageId: '2' })],
      ['muting members', ({ conn }) => conn.getGroupMuteList({ groupId: '1' })],
      ['group announcements', ({ conn }) => conn.fetchGroupAnnouncement({ groupId: '1' })],
      ['user attributes', ({ conn }) => conn.updateOwnUserInfo({ nickname: 'Tom' })],
    ]) {
      scenario(`not offered: ${what}`, async t => {
        const tom = await t.open('tom');
        await t.refused(call(tom), 505);
      });
    }

    for (const [method, path] of [
      ['GET', '/nothing'],
      ['POST', '/users/{me}/nothing'],
      ['PATCH', '/users/{me}'],
      ['DELETE', '/users/{me}/user_channels'],
      ['GET', '/'],
    ]) {
      scenario(`a path that is not there: ${method} ${path}`, async t => {
        const tom = await t.open('tom');
        const { status, body } = await t.rest.call(method, path.replace('{me}', tom.id), bearer(tom));
        assert.ok([404, 405].includes(status), `answered ${status}`);
        assert.equal(typeof body.error, 'string');
      });
    }

    scenario('a path of no app', async t => {
      const { status, body } = await t.rest.call('GET', `${t.server.url}/posthouse/nowhere/users/tom`);
      assert.equal(status, 404);
      assert.equal(body.error, 'organization_application_not_found');
    });

    scenario('a body that is no JSON, or is far too large', async t => {
      await t.rest.fails(400, 'POST', '/messages/users', { body: '{"from":' });
      await t.rest.fails(400, 'POST', '/messages/users', { body: '[]' });
      const { status } = await t.rest.call('POST', '/messages/users', {
        body: { from: 'a', to: ['b'], type: 'txt', body: { msg: 'x'.repeat(3_000_000) } },
      });
      assert.ok([400, 413].includes(status), `answered ${status}`);
    });

    for (const [what, change, why] of [
      ['without a sender', { from: '' }, "param from can't be empty"],
      ['for nobody', { to: undefined }, "param to can't be empty"],
      ['without a type', { type: undefined }, "param type can't be empty"],
      ['without a body', { body: undefined }, "param body can't be empty"],
      ['with ext that is no object', { ext: 'x' }, 'param ext must be JSONObject'],
      ['that is too large', { body: { msg: 'x'.repeat(6_000) } }, 'message is too large'],
      ['for 601 users', { to: Array.from({ length: 601 }, (_, index) => `u${index}`) }, "params to's size can't exceed limit 600"],
    ]) {
      scenario(`a REST message ${what}`, async t => {
        const [tom, jerry] = await t.people('tom', 'jerry');
        const body = { from: tom, to: [jerry], type: 'txt', body: { msg: 'x' }, ...change };
        const answer = await t.rest.fails(400, 'POST', '/messages/users', { body });
        assert.equal(answer.error, 'message_send_error');
        assert.equal(answer.error_description, why);
        const reader = await t.open('jerry');
        assert.deepEqual(await reader.texts(tom), []);
      });
    }

    scenario('a user cannot do what is the back end’s', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const user = bearer(tom);
      await t.rest.fails(401, 'POST', '/messages/users', { body: { from: jerry.id, to: [tom.id], type: 'txt', body: { msg: 'forged' } }, ...user });
      await t.rest.fails(401, 'DELETE', `/users/${jerry.id}`, user);
      await t.rest.fails(401, 'PUT', `/users/${jerry.id}/password`, { body: { newpassword: 'x' }, ...user });
      await t.rest.fails(401, 'POST', '/users', { body: { username: t.name('x'), password: 'x' }, ...user });
      await t.rest.fails(401, 'POST', '/messages/users/import', { body: { from: tom.id, target: jerry.id, type: 'txt', body: { msg: 'x' } }, ...user });
      await t.rest.fails(401, 'GET', `/users/${jerry.id}/disconnect`, user);
      await t.rest.fails(401, 'POST', '/token', { body: { grant_type: 'inherit', username: jerry.id }, ...user });
      assert.deepEqual(await tom.texts(jerry.id), []);
      await t.rest.ok('GET', `/users/${jerry.id}`);
    });

    scenario('two apps never see each other', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await tom.say(jerry.id, 'secret');
      const name = `conformance-other-${t.number}`;
      const other = await t.server.createEasemobApp(name, {
        appKey: `posthouse#${name}`,
        clientId: `id-${name}`,
        clientSecret: `secret-${name}`,
      });
      const { Rest } = await import('../../lib/easemob/rest.mjs');
      const rest = new Rest(t.server, other);
      const token = await t.until('the new app is known', () => rest.token().catch(() => {
        rest.appToken = undefined;
      }));
      await t.rest.fails(401, 'GET', `/users/${tom.id}`, { token });
      await rest.fails(404, 'GET', `/users/${tom.id}`);
      await rest.register(tom.id);
      const stranger = t.device(tom.id, { appKey: other.appKey });
      await stranger.open({ accessToken: await rest.userToken(tom.id) });
      assert.deepEqual(await stranger.peers(), []);
      assert.deepEqual(await stranger.texts(jerry.id), []);
      await t.refused(t.device(tom.id).open({ accessToken: stranger.conn.token }), 28);
      await stranger.say(jerry.id, 'from the other app');
      await t.barrier(jerry);
      assert.equal(t.messages(jerry).length, 1);
    });

    scenario('a preflight is answered with the list of headers', async t => {
      const headers = ['authorization', 'content-type', 'restrict-access', 'share-secret', 'x-requested-with', 'accept'];
      for (const path of ['/token', '/users/tom/user_channels', '/chatfiles', '/sdk/message/roaming/chat/user/tom']) {
        const response = await fetch(`${t.rest.url}${path}`, {
          method: 'OPTIONS',
          headers: {
            Origin: 'http://app.test',
            'Access-Control-Request-Method': 'DELETE',
            'Access-Control-Request-Headers': headers.join(','),
          },
        });
        assert.ok([200, 204].includes(response.status));
        assert.match(response.headers.get('access-control-allow-origin'), /^(\*|http:\/\/app\.test)$/);
        const allowed = response.headers.get('access-control-allow-headers').toLowerCase();
        for (const header of headers) assert.ok(allowed.includes(header), `${header} in ${allowed}`);
        const methods = response.headers.get('access-control-allow-methods');
        for (const method of ['GET', 'POST', 'PUT', 'DELETE']) assert.ok(methods.includes(method), methods);
      }
    });
  });
}
