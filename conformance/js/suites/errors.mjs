// What bad input gets: the documented error on the same serial, and the
// connection lives on.

import assert from 'node:assert/strict';

import { create, rawLogs, seenBy, sendTexts } from './shared.mjs';

const ABSENT = '0123456789abcdef01234567';

const direct = (t, client, cid, msg = 'x') =>
  t
    .raw(client, { cmd: 'direct', directMessage: { cid, msg, dt: t.name('dt') } })
    .then(({ ackMessage }) => ackMessage, error => error);

export default function errors(ring) {
  ring.suite('errors', scenario => {
    scenario('sending to a conversation one is not in, or that does not exist', async t => {
      const tom = await t.open('tom');
      const stranger = await t.open('stranger');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await t.refused((await seenBy(stranger, conversation)).send(t.text(stranger, 'hi')), 4401);
      const ack = await direct(t, stranger, conversation.id);
      assert.equal(ack.code, 4401);
      assert.equal(ack.reason, 'INVALID_MESSAGING_TARGET');
      assert.equal((await direct(t, stranger, ABSENT)).code, 4401);
      assert.deepEqual(await conversation.queryMessages(), []);
    });

    scenario('a temporary conversation that never was', async t => {
      const tom = await t.open('tom');
      const cid = '_tmp:00000000000000000000000000000000';
      assert.equal((await direct(t, tom, cid)).code, 4323);
      await t.refused(t.raw(tom, { cmd: 'conv', op: 'count', convMessage: { cid } }), 4323);
    });

    scenario('a message over the limit', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await t.refused(conversation.send(t.text(tom, 'x'.repeat(6 * 1024))), 4109);
      await conversation.send(t.text(tom, 'x'.repeat(4 * 1024)));
      assert.equal((await conversation.queryMessages()).length, 1);
    });

    scenario('history and receipts of a foreign conversation', async t => {
      const tom = await t.open('tom');
      const stranger = await t.open('stranger');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      await sendTexts(t, tom, conversation, 'secret');
      const error = await t.refused(rawLogs(t, stranger, conversation), 4312);
      assert.equal(error.name, 'CONVERSATION_LOG_REJECTED');
      await t.refused(
        t.raw(stranger, { cmd: 'conv', op: 'max_read', convMessage: { cid: conversation.id } }),
        4309,
        4312,
        4317,
      );
      await t.refused(rawLogs(t, stranger, { id: ABSENT }), 4303);
    });

    scenario('commands on a conversation that does not exist', async t => {
      const tom = await t.open('tom');
      for (const op of ['add', 'remove', 'update', 'mute', 'unmute', 'count']) {
        const convMessage = { cid: ABSENT };
        if (op === 'add' || op === 'remove') convMessage.m = [tom.id];
        if (op === 'update') convMessage.attr = t.json(tom, { name: 'x' });
        const error = await t.refused(t.raw(tom, { cmd: 'conv', op, convMessage }), 4303);
        assert.equal(error.name, 'CONVERSATION_NOT_FOUND');
      }
    });

    scenario('a client id that is too long', async t => {
      await t.refused(t.open('tom', { id: 'x'.repeat(65) }), 4103);
      const longest = await t.open('tom', { id: 'y'.repeat(64) });
      assert.equal(longest.id.length, 64);
    });

    scenario('an app that does not exist', async t => {
      await assert.rejects(t.open('tom', { device: t.device({ appId: 'no-such-app' }) }));
    });

    scenario('a session for an app that does not exist', async t => {
      const tom = await t.open('tom');
      await t.refused(
        t.raw(tom, {
          cmd: 'session',
          op: 'open',
          appId: 'no-such-app',
          peerId: t.name('other'),
          sessionMessage: { ua: 'js/conformance' },
        }),
        4100,
      );
      assert.deepEqual(await tom.ping([tom.id]), [tom.id]);
    });

    scenario('commands of a client without a session', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const { GenericCommand } = tom.AV.Protocals;
      const asJerry = command => tom._connection.send(new GenericCommand({ ...command, peerId: t.name('jerry') }));
      const error = await t.refused(
        asJerry({ cmd: 'conv', op: 'query', convMessage: { where: t.json(tom, {}) } }),
        4105,
      );
      assert.equal(error.name, 'SESSION_REQUIRED');
      await t.refused(asJerry({ cmd: 'logs', logsMessage: { cid: conversation.id } }), 4105);
    });

    scenario('unknown and unfinished commands are answered, never left alone', async t => {
      const tom = await t.open('tom');
      await t.refused(t.raw(tom, { cmd: 'pubsub', op: 'subscribe' }), 4200);
      await t.refused(t.raw(tom, { cmd: 'room', op: 'join' }), 4200);
      await t.refused(t.raw(tom, { cmd: 'session', op: 'add' }), 4200);
      for (const command of [
        { cmd: 'conv', op: 'add' },
        { cmd: 'conv', op: 'update', convMessage: { cid: ABSENT } },
        { cmd: 'conv', op: 'start', convMessage: {} },
        { cmd: 'direct' },
        { cmd: 'logs' },
        { cmd: 'patch', op: 'modify' },
      ]) {
        const answer = await t.raw(tom, command).then(
          ({ ackMessage, convMessage }) => ({ code: ackMessage?.code, cid: convMessage?.cid }),
          error => error,
        );
        assert.ok(answer.code || answer.cid, `${command.cmd}/${command.op} got no error`);
      }
      assert.deepEqual(await tom.ping([tom.id]), [tom.id]);
    });

    scenario('hostile and broken where queries', async t => {
      const tom = await t.open('tom');
      const find = data => {
        const { JsonObjectMessage } = tom.AV.Protocals;
        const where = new JsonObjectMessage({ data });
        return t.raw(tom, { cmd: 'conv', op: 'query', convMessage: { where, flag: 0 } });
      };
      for (const data of ['{not json', '[]', '17', '{"n":{"$unknown":1}}', '{"name":{"$regex":"(("}}', `${'{"$and":['.repeat(500)}{}${']}'.repeat(500)}`]) {
        const error = await find(data).then(() => undefined, caught => caught);
        assert.ok(error?.code, `${data.slice(0, 40)} was not refused`);
      }
      const began = Date.now();
      await find('{"name":{"$regex":"^(a+)+$"}}');
      await find(`{"name":{"$regex":"(x+x+)+y"},"other":"${'x'.repeat(3000)}"}`);
      assert.ok(Date.now() - began < 2_000);
    });

    scenario('too many members of an ordinary conversation', async t => {
      const tom = await t.open('tom');
      const members = Array.from({ length: 501 }, (_, index) => `m${index}`);
      await t.refused(tom.createConversation({ members, unique: false }), 4304);
    });

    scenario('chat-room commands elsewhere', async t => {
      const tom = await t.open('tom');
      const room = await tom.createChatRoom({ name: 'room' });
      await t.refused(t.raw(tom, { cmd: 'conv', op: 'max_read', convMessage: { cid: room.id } }), 4314);
    });

    scenario('a broken frame ends only its own connection', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      tom._connection._ws.send(Buffer.from([0xff, 0xff, 0xff, 0xff]));
      await t.event(tom, 'reconnect');
      assert.deepEqual(await tom.ping([tom.id]), [tom.id]);
      assert.deepEqual(await jerry.ping([jerry.id]), [jerry.id]);
    });
  });
}
