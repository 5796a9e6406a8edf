// Message roaming: both directions, cursors, filters, and who may read what.

import assert from 'node:assert/strict';

import { idsOf, textsOf } from '../../lib/easemob/device.mjs';
import { BOTH, KINDS, bearer, imported, talk } from './shared.mjs';

/** A conversation of `count` imported texts, a second apart; gives their ids, oldest first. */
async function written(t, from, target, count, group = false) {
  const now = Date.now() - count * 1_000;
  const ids = [];
  for (let index = 0; index < count; index += 1) {
    ids.push(await imported(t, from, target, `m${index}`, now + index * 1_000, { group }));
  }
  return ids;
}

const numbered = (first, last) =>
  Array.from({ length: Math.abs(last - first) + 1 }, (_, index) => `m${first < last ? first + index : first - index}`);

export default function history(ring) {
  ring.suite('easemob-history', scenario => {
    for (const kind of KINDS) {
      scenario(`${kind}: both directions, page by page`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const ids = await written(t, tom.id, at(tom), 23, kind === 'group');
        for (const device of [tom, jerry]) {
          const walk = async searchDirection => {
            const pages = [];
            let cursor;
            for (;;) {
              const page = await device.history(at(device), { chatType, searchDirection, pageSize: 10, ...(cursor ? { cursor } : {}) });
              pages.push(page);
              if (page.isLast || pages.length > 5) return pages;
              ({ cursor } = page);
            }
          };
          const up = await walk('up');
          assert.deepEqual(up.map(({ messages }) => textsOf(messages)), [numbered(22, 13), numbered(12, 3), numbered(2, 0)]);
          const down = await walk('down');
          assert.deepEqual(down.map(({ messages }) => textsOf(messages)), [numbered(0, 9), numbered(10, 19), numbered(20, 22)]);
          assert.deepEqual(down.flatMap(({ messages }) => idsOf(messages)), ids);
        }
      }, { timeout: 15_000, ...(kind === 'single' ? BOTH : {}) });
    }

    scenario('a message id is a cursor, and not part of the answer', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const ids = await tom.sayAll(jerry.id, 'm0', 'm1', 'm2', 'm3', 'm4');
      const up = await jerry.history(tom.id, { cursor: ids[2] });
      assert.deepEqual(textsOf(up.messages), ['m1', 'm0']);
      const down = await jerry.history(tom.id, { cursor: ids[2], searchDirection: 'down' });
      assert.deepEqual(textsOf(down.messages), ['m3', 'm4']);
      assert.equal(down.isLast, true);
    }, BOTH);

    scenario('a last page that is exactly full', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await tom.sayAll(jerry.id, 'm0', 'm1', 'm2', 'm3');
      const first = await jerry.history(tom.id, { pageSize: 2 });
      assert.equal(first.isLast, false);
      const second = await jerry.history(tom.id, { pageSize: 2, cursor: first.cursor });
      assert.deepEqual(textsOf(second.messages), ['m1', 'm0']);
      if (!second.isLast) {
        const third = await jerry.history(tom.id, { pageSize: 2, cursor: second.cursor });
        assert.deepEqual(third.messages, []);
        assert.equal(third.isLast, true);
      }
    });

    scenario('the beginning is called by many names', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await tom.sayAll(jerry.id, 'm0', 'm1');
      for (const cursor of [-1, '-1', '', 'undefined', null, 0]) {
        const { messages } = await jerry.history(tom.id, { cursor });
        assert.deepEqual(textsOf(messages), ['m1', 'm0'], `cursor ${JSON.stringify(cursor)}`);
      }
    });

    scenario('a cursor that is none', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await tom.say(jerry.id, 'm0');
      await t.refused(jerry.history(tom.id, { cursor: 'abc' }), 17);
    });

    scenario('messages of the same millisecond', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const at = Date.now() - 10_000;
      for (let index = 0; index < 7; index += 1) await imported(t, tom.id, jerry.id, `m${index}`, at);
      const found = [];
      let cursor = -1;
      for (let round = 0; round < 5; round += 1) {
        const page = await jerry.history(tom.id, { pageSize: 3, searchDirection: 'down', cursor });
        found.push(...page.messages);
        ({ cursor } = page);
        if (page.isLast) break;
      }
      assert.deepEqual(textsOf(found).sort(), numbered(0, 6));
    });

    scenario('imported out of order, read in the order of their times', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const at = Date.now() - 100_000;
      for (const index of [3, 0, 4, 1, 2]) await imported(t, tom.id, jerry.id, `m${index}`, at + index);
      assert.deepEqual(await jerry.texts(tom.id), numbered(0, 4));
      const first = await jerry.history(tom.id, { pageSize: 2 });
      assert.deepEqual(textsOf(first.messages), ['m4', 'm3']);
      const second = await jerry.history(tom.id, { pageSize: 2, cursor: first.cursor });
      assert.deepEqual(textsOf(second.messages), ['m2', 'm1']);
      assert.equal((await jerry.entry(tom.id)).text, 'm4');
    });

    scenario('never more than fifty', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await written(t, tom.id, jerry.id, 60);
      const { messages, isLast } = await jerry.history(tom.id, { pageSize: 100 });
      assert.deepEqual(textsOf(messages), numbered(59, 10));
      assert.equal(isLast, false);
      const rest = await jerry.history(tom.id, { pageSize: 100, cursor: messages.at(-1).id });
      assert.deepEqual(textsOf(rest.messages), numbered(9, 0));
    }, { timeout: 15_000 });

    for (const [what, more] of [
      ['of a word', { pull_number: 'many' }],
      ['without a queue', { queue: undefined }],
      ['in a queue without a name', { queue: '' }],
      ['in the queue of another server', { queue: 'tom@example.com' }],
      ['of kinds that are no words', { msgType: 7 }],
    ]) {
      scenario(`a request ${what}`, async t => {
        const tom = await t.open('tom');
        const body = { queue: `${t.name('jerry')}@easemob.com`, start: -1, end: -1, pull_number: 10, ...more };
        await t.rest.fails(400, 'POST', `/users/${tom.id}/messageroaming`, { body, ...bearer(tom) });
      });
    }

    scenario('a page of nothing, or of less, is a page of one', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await tom.sayAll(jerry.id, 'm0', 'm1');
      for (const pageSize of [0, -1]) {
        const body = { queue: `${jerry.id}@easemob.com`, start: -1, end: -1, pull_number: pageSize };
        const { data } = await t.rest.ok('POST', `/users/${tom.id}/messageroaming`, { body, ...bearer(tom) });
        assert.equal(data.msgs.length, 1);
        assert.equal(data.is_last, false);
      }
    });

    scenario('by kinds of content', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await tom.say(jerry.id, 'a text');
      await tom.send({ type: 'loc', to: jerry.id, addr: 'here', buildingName: '', lat: 1, lng: 2 });
      await tom.send({ type: 'custom', to: jerry.id, customEvent: 'ev', customExts: {} });
      await tom.send({ type: 'img', to: jerry.id, width: 1, height: 1, url: 'https://files.example.com/a/b/c' });
      const types = async (...msgTypes) => {
        const { messages } = await jerry.history(tom.id, { searchOptions: { msgTypes }, searchDirection: 'down' });
        return messages.map(({ type }) => type);
      };
      assert.deepEqual(await types('txt'), ['txt']);
      assert.deepEqual(await types('img', 'loc'), ['loc', 'img']);
      assert.deepEqual(await types('custom'), ['custom']);
      assert.deepEqual(await types('audio', 'video', 'file', 'cmd'), []);
      assert.deepEqual(await types(), ['txt', 'loc', 'custom', 'img']);
    }, BOTH);

    scenario('by sender, in a group', async t => {
      const { tom, jerry, group } = await talk(t, 'group');
      await tom.sayIn(group, 'one');
      await jerry.sayIn(group, 'two');
      await tom.sayIn(group, 'three');
      const from = async sender => {
        const { messages } = await jerry.history(group, { chatType: 'groupChat', searchOptions: { from: sender } });
        return textsOf(messages);
      };
      assert.deepEqual(await from(tom.id), ['three', 'one']);
      assert.deepEqual(await from(jerry.id), ['two']);
      assert.deepEqual(await from(t.name('nobody')), []);
    });

    scenario('by time', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const at = Date.now() - 100_000;
      for (let index = 0; index < 5; index += 1) await imported(t, tom.id, jerry.id, `m${index}`, at + index * 1_000);
      const { messages } = await jerry.history(tom.id, {
        searchDirection: 'down',
        searchOptions: { startTime: at + 1_000 - 500, endTime: at + 3_000 + 500 },
      });
      assert.deepEqual(textsOf(messages), ['m1', 'm2', 'm3']);
    });

    scenario('filters and pages together', async t => {
      const { tom, jerry } = await talk(t, 'single');
      for (let index = 0; index < 6; index += 1) {
        await tom.say(jerry.id, `m${index}`);
        await tom.send({ type: 'custom', to: jerry.id, customEvent: 'between', customExts: {} });
      }
      const searchOptions = { msgTypes: ['txt'] };
      const first = await jerry.history(tom.id, { pageSize: 4, searchOptions });
      assert.deepEqual(textsOf(first.messages), ['m5', 'm4', 'm3', 'm2']);
      assert.equal(first.isLast, false);
      const second = await jerry.history(tom.id, { pageSize: 4, searchOptions, cursor: first.cursor });
      assert.deepEqual(textsOf(second.messages), ['m1', 'm0']);
      assert.equal(second.isLast, true);
    });

    scenario('the older method collects until the end', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await written(t, tom.id, jerry.id, 25);
      const first = await jerry.conn.fetchHistoryMessages({ queue: tom.id, count: 10, isGroup: false, format: true });
      assert.deepEqual(textsOf(first), numbered(15, 24));
      const second = await jerry.conn.fetchHistoryMessages({ queue: tom.id, count: 10, isGroup: false, format: true });
      assert.deepEqual(textsOf(second), numbered(5, 14));
      const third = await jerry.conn.fetchHistoryMessages({ queue: tom.id, count: 10, isGroup: false, format: true });
      assert.deepEqual(textsOf(third), numbered(0, 4));
    }, BOTH);

    scenario('the older method in a group', async t => {
      const { tom, jerry, group } = await talk(t, 'group');
      await written(t, tom.id, group, 3, true);
      const found = await jerry.conn.fetchHistoryMessages({ queue: group, count: 10, isGroup: true, format: true });
      assert.deepEqual(textsOf(found), numbered(0, 2));
    });

    scenario('nothing was said', async t => {
      const { tom, jerry, group } = await talk(t, 'group');
      const empty = await tom.history(jerry.id);
      assert.deepEqual([empty.messages, empty.isLast], [[], true]);
      const inGroup = await tom.history(group, { chatType: 'groupChat' });
      assert.deepEqual([inGroup.messages, inGroup.isLast], [[], true]);
      assert.deepEqual((await tom.history(t.name('nobody'))).messages, []);
    });

    scenario('of a group that one is not in, or not in any more', async t => {
      const [tom, jerry, eve] = await t.openAll('tom', 'jerry', 'eve');
      const group = await t.rest.group(tom.id, [jerry.id]);
      await tom.sayIn(group, 'secret');
      const read = device => device.history(group, { chatType: 'groupChat' });
      // The SDK takes an address without "chatgroups" for that of a room.
      await t.refused(read(eve), 702);
      assert.deepEqual(textsOf((await read(jerry)).messages), ['secret']);
      await jerry.conn.leaveGroup({ groupId: group });
      await t.refused(read(jerry), 702);
      assert.deepEqual((await tom.history('123456789012', { chatType: 'groupChat' })).messages, []);
    });

    scenario('what was said before one joined', async t => {
      const [tom, mary] = await t.openAll('tom', 'mary');
      const group = await t.rest.group(tom.id);
      await tom.sayIn(group, 'before');
      await t.rest.ok('POST', `/chatgroups/${group}/users/${mary.id}`);
      await tom.sayIn(group, 'after');
      assert.deepEqual(await mary.texts(group, { chatType: 'groupChat' }), ['after']);
      assert.deepEqual(await tom.texts(group, { chatType: 'groupChat' }), ['before', 'after']);
    });

    scenario('what was said before one joined, where the app shows it', async t => {
      const [tom, mary] = await t.openAll('tom', 'mary');
      const group = await t.rest.group(tom.id);
      await tom.sayIn(group, 'before');
      await t.rest.ok('POST', `/chatgroups/${group}/users/${mary.id}`);
      assert.deepEqual(await mary.texts(group, { chatType: 'groupChat' }), ['before']);
    }, { settings: { group_history_before_join: true } });

    scenario('of somebody else’s path', async t => {
      const [tom, jerry, eve] = await t.openAll('tom', 'jerry', 'eve');
      await tom.say(jerry.id, 'secret');
      const body = { queue: `${jerry.id}@easemob.com`, start: -1, end: -1, pull_number: 10 };
      await t.rest.fails(401, 'POST', `/users/${tom.id}/messageroaming`, { body, ...bearer(eve) });
      await t.rest.fails(401, 'POST', `/users/${tom.id}/messageroaming`, { body, token: null });
      const own = await t.rest.ok('POST', `/users/${tom.id}/messageroaming`, { body, ...bearer(tom) });
      assert.equal(own.data.msgs.length, 1);
      const byApp = await t.rest.ok('POST', `/users/${tom.id}/messageroaming`, { body });
      assert.equal(byApp.data.msgs.length, 1);
      assert.deepEqual(await eve.texts(tom.id), []);
    });

    scenario('messages that hide from some are not offered, and not shown to them instead', async t => {
      const { tom, jerry, group } = await talk(t, 'group');
      const body = { from: tom.id, to: [group], type: 'txt', body: { msg: 'not for jerry' }, roam_ignore_users: [jerry.id] };
      await t.rest.fails(403, 'POST', '/messages/chatgroups', { body });
      assert.deepEqual(await jerry.texts(group, { chatType: 'groupChat' }), []);
    });
  });
}
