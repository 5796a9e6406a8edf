// Message history by every parameter, in both directions.

import assert from 'node:assert/strict';

import { create, KINDS, rawLogs, seenBy, sendTexts, textsOf } from './shared.mjs';

async function six(t) {
  const tom = await t.open('tom');
  const conversation = await create(t, 'ordinary', tom, 'jerry');
  const sent = [];
  for (const text of ['a', 'b', 'c', 'd', 'e', 'f']) {
    sent.push(await conversation.send(t.text(tom, text)));
  }
  const query = async options => textsOf(await conversation.queryMessages(options)).join('');
  return { tom, conversation, sent, query };
}

const at = message => ({ startTime: message.timestamp, startMessageId: message.id });
const to = message => ({ endTime: message.timestamp, endMessageId: message.id });

export default function history(ring) {
  ring.suite('history', scenario => {
    scenario('the newest page, oldest first', async t => {
      const { query } = await six(t);
      assert.equal(await query(), 'abcdef');
      assert.equal(await query({ limit: 2 }), 'ef');
    });

    scenario('from new to old, open and closed start', async t => {
      const { sent, query } = await six(t);
      const [, , c, , e] = sent;
      assert.equal(await query({ ...at(e), limit: 2 }), 'cd');
      assert.equal(await query({ ...at(e), startClosed: true, limit: 2 }), 'de');
      assert.equal(await query({ ...at(c) }), 'ab');
    });

    scenario('from new to old, open and closed end', async t => {
      const { sent, query, tom } = await six(t);
      const [, b, , , e] = sent;
      const direction = tom.AV.MessageQueryDirection.NEW_TO_OLD;
      assert.equal(await query({ ...at(e), ...to(b), direction }), 'cd');
      assert.equal(await query({ ...at(e), ...to(b), endClosed: true, direction }), 'bcd');
      assert.equal(await query({ ...at(e), ...to(b), startClosed: true, endClosed: true, direction }), 'bcde');
      assert.equal(await query({ ...at(e), ...to(b), direction, limit: 1 }), 'd');
      assert.equal(await query({ ...to(b), direction }), 'cdef');
    });

    scenario('from old to new', async t => {
      const { sent, query, tom } = await six(t);
      const [, b, , , e] = sent;
      const direction = tom.AV.MessageQueryDirection.OLD_TO_NEW;
      assert.equal(await query({ direction, limit: 2 }), 'ab');
      assert.equal(await query({ ...at(b), direction, limit: 2 }), 'cd');
      assert.equal(await query({ ...at(b), startClosed: true, direction, limit: 2 }), 'bc');
      assert.equal(await query({ ...at(b), ...to(e), direction }), 'cd');
      assert.equal(await query({ ...at(b), ...to(e), startClosed: true, endClosed: true, direction }), 'bcde');
      assert.equal(await query({ ...to(e), direction }), 'abcd');
    });

    scenario('an end later than the start turns the direction', async t => {
      const { sent, query } = await six(t);
      const [a, , , d] = sent;
      // Equal times leave the direction alone; the SDK compares the times only.
      if (Number(a.timestamp) === Number(d.timestamp)) return;
      assert.equal(await query({ ...at(a), ...to(d), limit: 2 }), 'bc');
    });

    scenario('times without message ids', async t => {
      const { sent, conversation, tom } = await six(t);
      const logs = async query =>
        (await rawLogs(t, tom, conversation, query)).map(({ msgId }) => msgId);
      const times = sent.map(({ timestamp }) => Number(timestamp));
      const middle = times[3];
      const ids = keep => sent.filter((_, index) => keep(times[index])).map(({ id }) => id);
      assert.deepEqual(await logs({ t: middle, direction: 1 }), ids(time => time < middle));
      assert.deepEqual(await logs({ t: middle, tIncluded: true, direction: 1 }), ids(time => time <= middle));
      assert.deepEqual(await logs({ t: middle, direction: 2 }), ids(time => time > middle));
      assert.deepEqual(await logs({ t: middle, tIncluded: true, direction: 2 }), ids(time => time >= middle));
    });

    scenario('by type', async t => {
      const { conversation, tom, query } = await six(t);
      class Custom extends tom.AV.TypedMessage {}
      tom.AV.messageType(9)(Custom);
      tom.realtime.register(Custom);
      await conversation.send(new Custom().setText('custom'));
      await conversation.send(new tom.AV.Message('not typed'));
      assert.equal(await query({ type: 9 }), 'custom');
      assert.equal(await query({ type: -1, limit: 2 }), 'ef');
      assert.equal(await query({ type: -1, direction: 2, limit: 2 }), 'ab');
      assert.equal(await query({ type: 77 }), '');
    });

    scenario('the default limit is twenty', async t => {
      const tom = await t.open('tom');
      const conversation = await create(t, 'ordinary', tom, 'jerry');
      const texts = Array.from({ length: 25 }, (_, index) => `m${index}`);
      await Promise.all(texts.map(text => conversation.send(t.text(tom, text))));
      assert.deepEqual(textsOf(await conversation.queryMessages()), texts.slice(5));
      assert.deepEqual(textsOf(await conversation.queryMessages({ limit: 100 })), texts);
    });

    scenario('the iterator pages through all', async t => {
      const { conversation } = await six(t);
      const iterator = conversation.createMessagesIterator({ limit: 4 });
      const first = await iterator.next();
      assert.equal(textsOf(first.value).join(''), 'cdef');
      assert.equal(first.done, false);
      const second = await iterator.next();
      assert.equal(textsOf(second.value).join(''), 'ab');
      assert.equal(second.done, true);
    });

    for (const kind of KINDS) {
      scenario(`${kind}: each member may read it, a stranger may not`, async t => {
        const tom = await t.open('tom');
        const jerry = await t.open('jerry');
        const stranger = await t.open('stranger');
        const conversation = await create(t, kind, tom, 'jerry');
        await sendTexts(t, tom, conversation, 'secret');
        const atJerry = await seenBy(jerry, conversation);
        assert.deepEqual(textsOf(await atJerry.queryMessages()), ['secret']);
        const codes = kind === 'ordinary' ? [4312] : [4303, 4312, 4323];
        await t.refused(rawLogs(t, stranger, conversation), ...codes);
      });
    }

    scenario('an item carries sender, id and time', async t => {
      const { conversation, tom, sent } = await six(t);
      const [item] = await rawLogs(t, tom, conversation, { l: 1 });
      const last = sent.at(-1);
      assert.equal(item.msgId, last.id);
      assert.equal(item.from, tom.id);
      assert.equal(Number(item.timestamp), Number(last.timestamp));
      assert.equal(JSON.parse(item.data)._lctext, 'f');
    });
  });
}
