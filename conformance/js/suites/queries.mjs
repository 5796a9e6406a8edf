// Looking for conversations.

import assert from 'node:assert/strict';

import { create, rawRow, sendTexts } from './shared.mjs';

const ids = found => found.map(({ id }) => id);
const sorted = found => ids(found).sort();

/** Three conversations whose `mark` no other scenario uses. */
async function three(t, tom) {
  const mark = t.name('mark');
  const make = (name, size, extra = {}) =>
    tom.createConversation({
      members: Array.from({ length: size - 1 }, (_, index) => t.name(`m${index}`)),
      name,
      unique: false,
      mark,
      ...extra,
    });
  const alpha = await make('Alpha (1.0) \\E one', 2, { n: 1 });
  const beta = await make('Beta two', 3, { n: 2, tags: ['x', 'y'] });
  const gamma = await make('gamma alpha', 4, { n: 3, when: new Date('2026-01-02T03:04:05.678Z') });
  return { mark, alpha, beta, gamma };
}

export default function queries(ring) {
  ring.suite('queries', scenario => {
    scenario('by id, and many ids at once', async t => {
      const tom = await t.open('tom');
      const jerry = await t.open('jerry');
      const { alpha, beta } = await three(t, tom);
      assert.equal((await jerry.getConversation(alpha.id)).id, alpha.id);
      assert.deepEqual(ids(await jerry.getConversations([beta.id, alpha.id])), [beta.id, alpha.id]);
      assert.equal(await jerry.getConversation('0123456789abcdef01234567'), null);
    });

    scenario('without conditions one finds only the own ordinary conversations', async t => {
      const tom = await t.open('tom');
      const stranger = await t.open('stranger');
      const own = await create(t, 'ordinary', tom, 'jerry');
      await create(t, 'temporary', tom, 'jerry');
      await tom.createChatRoom({ name: 'room' });
      const answer = await t.raw(tom, { cmd: 'conv', op: 'query', convMessage: { limit: 1000 } });
      const rows = JSON.parse(answer.convMessage.results.data);
      assert.deepEqual(rows.map(({ objectId }) => objectId), [own.id]);
      const other = await t.raw(stranger, { cmd: 'conv', op: 'query', convMessage: {} });
      assert.deepEqual(JSON.parse(other.convMessage.results.data), []);
    });

    scenario('equalTo, comparison, sets and existence', async t => {
      const tom = await t.open('tom');
      const { mark, alpha, beta, gamma } = await three(t, tom);
      const query = () => tom.getQuery().equalTo('mark', mark);
      assert.deepEqual(sorted(await query().find()), [alpha.id, beta.id, gamma.id].sort());
      assert.deepEqual(ids(await query().equalTo('n', 2).find()), [beta.id]);
      assert.deepEqual(ids(await query().greaterThan('n', 2).find()), [gamma.id]);
      assert.deepEqual(sorted(await query().greaterThanOrEqualTo('n', 2).find()), [beta.id, gamma.id].sort());
      assert.deepEqual(ids(await query().lessThan('n', 2).find()), [alpha.id]);
      assert.deepEqual(sorted(await query().lessThanOrEqualTo('n', 2).find()), [alpha.id, beta.id].sort());
      assert.deepEqual(sorted(await query().notEqualTo('n', 2).find()), [alpha.id, gamma.id].sort());
      assert.deepEqual(sorted(await query().containedIn('n', [1, 3, 9]).find()), [alpha.id, gamma.id].sort());
      assert.deepEqual(ids(await query().notContainsIn('n', [1, 3]).find()), [beta.id]);
      assert.deepEqual(ids(await query().exists('tags').find()), [beta.id]);
      assert.deepEqual(sorted(await query().doesNotExist('tags').find()), [alpha.id, gamma.id].sort());
      assert.deepEqual(ids(await query().containsAll('tags', ['x', 'y']).find()), [beta.id]);
      assert.deepEqual(ids(await query().sizeEqualTo('tags', 2).find()), [beta.id]);
    });

    scenario('dates', async t => {
      const tom = await t.open('tom');
      const { mark, alpha, gamma } = await three(t, tom);
      const query = () => tom.getQuery().equalTo('mark', mark);
      assert.deepEqual(ids(await query().greaterThan('when', new Date('2026-01-02T03:04:05.677Z')).find()), [gamma.id]);
      assert.deepEqual(ids(await query().greaterThan('when', new Date('2026-01-02T03:04:05.678Z')).find()), []);
      assert.deepEqual(
        ids(await query().lessThanOrEqualTo('createdAt', alpha.createdAt).find()).includes(alpha.id),
        true,
      );
      assert.deepEqual(ids(await query().lessThan('createdAt', new Date(0)).find()), []);
    });

    scenario('contains, startsWith and endsWith quote what they look for', async t => {
      const tom = await t.open('tom');
      const { mark, alpha, beta, gamma } = await three(t, tom);
      const query = () => tom.getQuery().equalTo('mark', mark);
      assert.deepEqual(ids(await query().contains('name', '(1.0)').find()), [alpha.id]);
      assert.deepEqual(ids(await query().contains('name', '(1x0)').find()), []);
      assert.deepEqual(ids(await query().contains('name', '\\E one').find()), [alpha.id]);
      assert.deepEqual(ids(await query().startsWith('name', 'Beta').find()), [beta.id]);
      assert.deepEqual(ids(await query().startsWith('name', 'eta').find()), []);
      assert.deepEqual(ids(await query().endsWith('name', 'alpha').find()), [gamma.id]);
    });

    scenario('regular expressions with options', async t => {
      const tom = await t.open('tom');
      const { mark, alpha, beta, gamma } = await three(t, tom);
      const query = () => tom.getQuery().equalTo('mark', mark);
      assert.deepEqual(sorted(await query().matches('name', /ALPHA/i).find()), [alpha.id, gamma.id].sort());
      assert.deepEqual(ids(await query().matches('name', /^B.t+a\s(two|three)$/).find()), [beta.id]);
    });

    scenario('members', async t => {
      const tom = await t.open('tom');
      const { mark, alpha, beta, gamma } = await three(t, tom);
      const query = () => tom.getQuery().equalTo('mark', mark);
      assert.deepEqual(sorted(await query().containsMembers([t.name('m1')]).find()), [beta.id, gamma.id].sort());
      assert.deepEqual(ids(await query().withMembers([t.name('m0')], true).find()), [alpha.id]);
      assert.deepEqual(sorted(await query().equalTo('m', t.name('m2')).find()), [gamma.id]);
      assert.deepEqual(ids(await query().sizeEqualTo('m', 3).find()), [beta.id]);
    });

    scenario('dotted keys', async t => {
      const tom = await t.open('tom');
      const mark = t.name('mark');
      const conversation = await tom.createConversation({
        members: [t.name('jerry')],
        unique: false,
        attr: { deep: { mark } },
      });
      assert.deepEqual(ids(await tom.getQuery().equalTo('attr.deep.mark', mark).find()), [conversation.id]);
    });

    scenario('$or, $and and $not', async t => {
      const tom = await t.open('tom');
      const { mark, alpha, beta, gamma } = await three(t, tom);
      const find = async where => {
        const answer = await t.raw(tom, {
          cmd: 'conv',
          op: 'query',
          convMessage: { where: t.json(tom, where), limit: 100, flag: 0 },
        });
        return JSON.parse(answer.convMessage.results.data).map(({ objectId }) => objectId).sort();
      };
      assert.deepEqual(await find({ mark, $or: [{ n: 1 }, { n: 3 }] }), [alpha.id, gamma.id].sort());
      assert.deepEqual(await find({ $and: [{ mark }, { n: { $gt: 1 } }, { n: { $lt: 3 } }] }), [beta.id]);
      assert.deepEqual(await find({ mark, n: { $not: { $gte: 2 } } }), [alpha.id]);
    });

    scenario("the SDK's or and and", async t => {
      const tom = await t.open('tom');
      const { mark, alpha, beta, gamma } = await three(t, tom);
      const { ConversationQuery } = tom.AV;
      const marked = () => tom.getQuery().equalTo('mark', mark);
      const either = ConversationQuery.or(marked().equalTo('n', 1), marked().equalTo('n', 3));
      assert.deepEqual(sorted(await either.find()), [alpha.id, gamma.id].sort());
      const both = ConversationQuery.and(marked(), tom.getQuery().equalTo('n', 2));
      assert.equal((await both.first()).id, beta.id);
    }, { sdk: ['5'] });

    scenario('sort, limit and skip', async t => {
      const tom = await t.open('tom');
      const { mark, alpha, beta, gamma } = await three(t, tom);
      const query = () => tom.getQuery().equalTo('mark', mark);
      assert.deepEqual(ids(await query().ascending('n').find()), [alpha.id, beta.id, gamma.id]);
      assert.deepEqual(ids(await query().descending('n').find()), [gamma.id, beta.id, alpha.id]);
      assert.deepEqual(ids(await query().ascending('mark').addDescending('n').find()), [gamma.id, beta.id, alpha.id]);
      assert.deepEqual(ids(await query().ascending('n').limit(2).find()), [alpha.id, beta.id]);
      assert.deepEqual(ids(await query().ascending('n').skip(1).limit(1).find()), [beta.id]);
      assert.deepEqual(ids(await query().ascending('n').skip(3).find()), []);
    });

    scenario('the default page has ten rows', async t => {
      const tom = await t.open('tom');
      const mark = t.name('mark');
      for (let index = 0; index < 12; index += 1) {
        await tom.createConversation({ members: [t.name('jerry')], unique: false, mark });
      }
      assert.equal((await tom.getQuery().equalTo('mark', mark).find()).length, 10);
      assert.equal((await tom.getQuery().equalTo('mark', mark).limit(1000).find()).length, 12);
    });

    scenario('the newest talk comes first when no order is asked', async t => {
      const tom = await t.open('tom');
      const { mark, alpha, beta, gamma } = await three(t, tom);
      for (const conversation of [gamma, alpha, beta]) {
        const [sent] = await sendTexts(t, tom, conversation, 'x');
        await t.until('the clock has moved on', () => Date.now() > Number(sent.timestamp) + 1);
      }
      const found = await tom.getQuery().equalTo('mark', mark).find();
      assert.deepEqual(ids(found), [beta.id, alpha.id, gamma.id]);
    });

    scenario('compact leaves the members out', async t => {
      const tom = await t.open('tom');
      const { alpha } = await three(t, tom);
      const row = await rawRow(t, tom, alpha.id, 1);
      assert.equal(row.m, undefined);
      assert.equal(row.objectId, alpha.id);
    });

    scenario('with last messages', async t => {
      const tom = await t.open('tom');
      const { mark, alpha } = await three(t, tom);
      const [, second] = await sendTexts(t, tom, alpha, 'first', 'second');
      const again = await t.open('tom');
      const [found] = await again
        .getQuery()
        .equalTo('mark', mark)
        .equalTo('n', 1)
        .withLastMessagesRefreshed()
        .find();
      assert.equal(found.lastMessage.text, 'second');
      assert.equal(found.lastMessage.id, second.id);
      assert.equal(found.lastMessage.from, tom.id);
      assert.equal(Number(found.lastMessageAt), Number(second.timestamp));
      const row = await rawRow(t, again, alpha.id, 2);
      assert.equal(row.bin, false);
    });

    scenario('a stranger may find an ordinary conversation, but no message of it', async t => {
      const tom = await t.open('tom');
      const stranger = await t.open('stranger');
      const { alpha } = await three(t, tom);
      await sendTexts(t, tom, alpha, 'secret');
      const row = await rawRow(t, stranger, alpha.id, 2);
      assert.equal(row.name, alpha.name);
      for (const key of ['msg', 'msg_mid', 'msg_from', 'msg_timestamp']) {
        assert.equal(row[key], undefined, `${key} is for members`);
      }
    });
  });
}
