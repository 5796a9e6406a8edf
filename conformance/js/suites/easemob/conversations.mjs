// The conversation list: without pages, by pages, by cursor; pins and marks.

import assert from 'node:assert/strict';

import { BOTH, KINDS, bearer, imported, nextMillisecond, talk } from './shared.mjs';

const DAY = 86_400_000;

/** Conversations of `owner` with so many others, the last one newest; gives their names. */
async function filled(t, owner, count) {
  const names = Array.from({ length: count }, (_, index) => t.name(`p${String(index).padStart(3, '0')}`));
  const now = Date.now();
  for (let from = 0; from < count; from += 20) {
    await Promise.all(
      names.slice(from, from + 20).map((name, index) =>
        imported(t, name, owner, `from ${name}`, now - (count - from - index) * 1_000),
      ),
    );
  }
  return names;
}

export default function conversations(ring) {
  ring.suite('easemob-conversations', scenario => {
    for (const kind of KINDS) {
      scenario(`${kind}: sending puts the conversation into the list of both`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        assert.deepEqual(await tom.peers(), []);
        const id = await tom.say(at(tom), 'hello', { chatType });
        for (const [device, unread] of [
          [tom, 0],
          [jerry, 1],
        ]) {
          const entry = await device.entry(at(device));
          const domain = kind === 'single' ? 'easemob.com' : 'conference.easemob.com';
          assert.equal(entry.channel_id, `${t.app.appKey}_${at(device)}@${domain}`);
          assert.equal(entry.unread_num, unread);
          assert.deepEqual(
            [entry.lastMessage.id, entry.lastMessage.from, entry.lastMessage.to, entry.lastMessage.msg],
            [id, tom.id, at(tom), 'hello'],
          );
          const [unpaged] = await device.list();
          assert.deepEqual(unpaged, entry);
          const { conversations: [byCursor] } = await device.conversations();
          assert.deepEqual(
            [byCursor.conversationId, byCursor.conversationType, byCursor.unReadCount, byCursor.isPinned, byCursor.pinnedTime],
            [at(device), chatType, unread, false, 0],
          );
          assert.equal(byCursor.lastMessage.chatType, chatType);
        }
      }, kind === 'single' ? BOTH : {});

      scenario(`${kind}: the newest comes first and is one entry`, async t => {
        const { tom, jerry, at, chatType } = await talk(t, kind);
        const [mary] = await t.people('mary');
        await tom.say(at(tom), 'one', { chatType });
        await nextMillisecond(t);
        await tom.say(mary, 'two');
        assert.deepEqual(await tom.peers(), [mary, at(tom)]);
        await nextMillisecond(t);
        await jerry.say(at(jerry), 'three', { chatType });
        assert.deepEqual(await tom.peers(), [at(tom), mary]);
        assert.equal((await tom.entry(at(tom))).text, 'three');
      });
    }

    scenario('pages of a long list', async t => {
      const tom = await t.open('tom');
      const names = (await filled(t, tom.id, 45)).reverse();
      const pages = [];
      for (let pageNum = 1; pageNum <= 4; pageNum += 1) {
        pages.push((await tom.list({ pageNum, pageSize: 20 })).map(({ peer }) => peer));
      }
      assert.deepEqual(pages, [names.slice(0, 20), names.slice(20, 40), names.slice(40), []]);
      const single = await tom.list({ pageNum: 45, pageSize: 1 });
      assert.deepEqual(single.map(({ peer }) => peer), [names[44]]);
      assert.equal(single[0].text, `from ${names[44]}`);
      for (const number of ['1000', '4294967295', '99999999999999999999']) {
        const { data } = await t.rest.ok('GET', `/users/${tom.id}/user_channels/page?pageNum=${number}&pageSize=20`, bearer(tom));
        assert.deepEqual(data.channel_infos, []);
      }
    }, { timeout: 15_000 });

    for (const query of [
      'pageNum=0&pageSize=10',
      'pageNum=-1&pageSize=10',
      'pageNum=1&pageSize=0',
      'pageNum=1&pageSize=-5',
      'pageNum=1&pageSize=21',
      'pageNum=1&pageSize=abc',
      'pageNum=abc&pageSize=10',
      'pageNum=1.5&pageSize=10',
      'pageNum=1',
      'pageSize=10',
      '',
    ]) {
      scenario(`a page that is none: ${query}`, async t => {
        const tom = await t.open('tom');
        const path = `/users/${tom.id}/user_channels/page?${query}`;
        const { error } = await t.rest.fails(400, 'GET', path, bearer(tom));
        assert.equal(error, 'illegal_argument');
      });
    }

    scenario('pages see conversations older than the window, the plain list does not', async t => {
      const tom = await t.open('tom');
      const [fresh, old] = [t.name('fresh'), t.name('old')];
      await imported(t, old, tom.id, 'old', Date.now() - 7 * DAY - 60_000);
      await imported(t, fresh, tom.id, 'fresh', Date.now() - 7 * DAY + 60_000);
      assert.deepEqual((await tom.list()).map(({ peer }) => peer), [fresh]);
      assert.deepEqual(await tom.peers(), [fresh, old]);
      const { conversations: found } = await tom.conversations();
      assert.deepEqual(found.map(({ conversationId }) => conversationId), [fresh, old]);
    });

    scenario('a plain list of more conversations and days', async t => {
      const tom = await t.open('tom');
      const names = Array.from({ length: 14 }, (_, index) => t.name(`p${index}`));
      for (const [index, name] of names.entries()) await imported(t, name, tom.id, 'm', Date.now() - index * 3 * DAY);
      assert.deepEqual((await tom.list()).map(({ peer }) => peer), names.slice(0, 11));
    }, { settings: { conversation_list_default_count: 12, conversation_list_window_days: 31 } });

    scenario('by cursor', async t => {
      const tom = await t.open('tom');
      const names = (await filled(t, tom.id, 25)).reverse();
      const found = [];
      let cursor = '';
      for (let round = 0; round < 10; round += 1) {
        const answer = await tom.conversations({ pageSize: 10, cursor });
        found.push(answer.conversations.map(({ conversationId }) => conversationId));
        ({ cursor } = answer);
        assert.doesNotMatch(cursor, /[+&#%=\s]/);
        if (cursor === '') break;
      }
      assert.deepEqual(found.flat(), names);
      assert.equal(found[0].length, 10);
      assert.equal(cursor, '');
    }, BOTH);

    scenario('by cursor: a new message between two pages loses nothing', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const names = (await filled(t, tom.id, 6)).reverse();
      const first = await tom.conversations({ pageSize: 3 });
      await jerry.say(tom.id, 'meanwhile');
      const second = await tom.conversations({ pageSize: 3, cursor: first.cursor });
      const seen = [...first.conversations, ...second.conversations].map(({ conversationId }) => conversationId);
      assert.deepEqual(seen, names);
    });

    scenario('by cursor: one that is none', async t => {
      const tom = await t.open('tom');
      await tom.say(t.name('jerry'), 'x');
      const { error } = await t.rest.fails(400, 'GET', `/sdk/user/${tom.id}/user_channels/list?limit=10&cursor=nonsense`, bearer(tom));
      assert.ok(error);
    });

    scenario('conversations without a message are listed when asked for', async t => {
      const [tom, jerry] = await t.openAll('tom', 'jerry');
      const group = await t.rest.group(tom.id, [jerry.id]);
      assert.deepEqual((await jerry.conversations()).conversations, []);
      const { conversations: [empty] } = await jerry.conversations({ includeEmptyConversations: true });
      assert.deepEqual([empty.conversationId, empty.conversationType, empty.unReadCount, empty.lastMessage], [group, 'groupChat', 0, null]);
      assert.deepEqual(await jerry.peers(), []);
    });

    scenario('a list is one’s own', async t => {
      const [tom, jerry, eve] = await t.openAll('tom', 'jerry', 'eve');
      await tom.say(jerry.id, 'between us');
      assert.deepEqual(await eve.peers(), []);
      for (const path of [
        `/users/${tom.id}/user_channels`,
        `/users/${tom.id}/user_channels/page?pageNum=1&pageSize=10`,
        `/sdk/user/${tom.id}/user_channels/list?limit=10&cursor=`,
      ]) {
        await t.rest.fails(401, 'GET', path, bearer(eve));
        await t.rest.fails(401, 'GET', path, { token: 'nonsense' });
        await t.rest.ok('GET', path);
      }
    });

    scenario('a group that was left or destroyed is in no list', async t => {
      const { tom, jerry, group } = await talk(t, 'group');
      await tom.sayIn(group, 'hello');
      await t.rest.ok('DELETE', `/chatgroups/${group}/users/${jerry.id}`);
      assert.deepEqual(await jerry.peers(), []);
      assert.deepEqual(await tom.peers(), [group]);
      await t.rest.ok('DELETE', `/chatgroups/${group}`);
      assert.deepEqual(await tom.peers(), []);
    });
  });

  ring.suite('easemob-pins', scenario => {
    scenario('a pinned conversation', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const phone = await t.open('tom');
      const [mary] = await t.people('mary');
      await tom.say(jerry.id, 'one');
      await nextMillisecond(t);
      await tom.say(mary, 'two');
      const before = Date.now();
      const { data } = await tom.conn.pinConversation({ conversationId: jerry.id, conversationType: 'singleChat', isPinned: true });
      assert.equal(data.isPinned, true);
      assert.ok(Math.abs(data.pinnedTime - before) < 10_000);
      const event = await t.event(phone, 'onMultiDeviceEvent');
      assert.deepEqual([event.operation, event.conversationId, event.conversationType], ['pinnedConversation', jerry.id, 'singleChat']);
      const pinned = async device => (await device.conn.getServerPinnedConversations({ pageSize: 20 })).data.conversations;
      const [first, ...others] = await pinned(phone);
      assert.deepEqual(others, []);
      assert.deepEqual([first.conversationId, first.isPinned, first.pinnedTime], [jerry.id, true, data.pinnedTime]);
      assert.deepEqual(await tom.peers(), [mary, jerry.id]);
      assert.deepEqual(await pinned(jerry), []);
      const undone = await tom.conn.pinConversation({ conversationId: jerry.id, conversationType: 'singleChat', isPinned: false });
      assert.deepEqual(undone.data, { isPinned: false, pinnedTime: 0 });
      assert.equal((await t.event(phone, 'onMultiDeviceEvent')).operation, 'unpinnedConversation');
      assert.deepEqual(await pinned(tom), []);
      await t.barrier(tom);
      assert.deepEqual(t.seen(tom, 'onMultiDeviceEvent'), []);
    }, BOTH);

    scenario('the last pin comes first, in pages', async t => {
      const tom = await t.open('tom');
      const names = await filled(t, tom.id, 4);
      for (const name of [names[2], names[0], names[3]]) {
        await nextMillisecond(t);
        await tom.conn.pinConversation({ conversationId: name, conversationType: 'singleChat', isPinned: true });
      }
      const first = await tom.conn.getServerPinnedConversations({ pageSize: 2 });
      const second = await tom.conn.getServerPinnedConversations({ pageSize: 2, cursor: first.data.cursor });
      const seen = [...first.data.conversations, ...second.data.conversations].map(({ conversationId }) => conversationId);
      assert.deepEqual(seen, [names[3], names[0], names[2]]);
    });

    scenario('of a conversation that is not there', async t => {
      const tom = await t.open('tom');
      await t.refused(tom.conn.pinConversation({ conversationId: t.name('nobody'), conversationType: 'singleChat', isPinned: true }), 1400);
      await t.refused(tom.conn.pinConversation({ conversationId: '123456789012', conversationType: 'groupChat', isPinned: true }), 1400);
    });

    scenario('no more than fifty', async t => {
      const tom = await t.open('tom');
      const names = await filled(t, tom.id, 51);
      const pin = name => tom.conn.pinConversation({ conversationId: name, conversationType: 'singleChat', isPinned: true });
      await Promise.all(names.slice(0, 50).map(pin));
      await t.refused(pin(names[50]), 50);
    }, { timeout: 15_000 });

    scenario('marks', async t => {
      const tom = await t.open('tom');
      const phone = await t.open('tom');
      const names = await filled(t, tom.id, 3);
      const some = names.slice(0, 2).map(conversationId => ({ conversationId, conversationType: 'singleChat' }));
      await tom.conn.addConversationMark({ conversations: some, mark: 3 });
      await tom.conn.addConversationMark({ conversations: some.slice(0, 1), mark: 19 });
      for (let count = 0; count < 2; count += 1) {
        const event = await t.event(phone, 'onMultiDeviceEvent', ({ conversationMark }) => conversationMark === 3);
        assert.equal(event.operation, 'markConversation');
        assert.ok(names.slice(0, 2).includes(event.conversationId));
      }
      const marked = async mark => {
        const { data } = await tom.conn.getServerConversationsByFilter({ pageSize: 10, cursor: '', filter: { mark } });
        return data.conversations.map(({ conversationId }) => conversationId);
      };
      assert.deepEqual(await marked(3), [names[1], names[0]]);
      assert.deepEqual(await marked(19), [names[0]]);
      assert.deepEqual(await marked(4), []);
      const { conversations: listed } = await tom.conversations();
      assert.deepEqual(listed.map(({ marks }) => marks ?? []), [[], [3], [3, 19]]);
      await tom.conn.removeConversationMark({ conversations: some, mark: 3 });
      assert.deepEqual(await marked(3), []);
      assert.deepEqual(await marked(19), [names[0]]);
      const event = await t.event(phone, 'onMultiDeviceEvent', ({ operation }) => operation === 'unMarkConversation');
      assert.equal(event.conversationMark, 3);
    });
  });

  const REST_MESSAGES = {
    exclude: { rest: [], mixed: [], after: ['client again'] },
    ignore: { rest: [], mixed: ['by client'], after: ['client again'] },
    write: { rest: ['by rest'], mixed: ['by rest'], after: ['client again'] },
  };
  ring.suite('easemob-rest-messages', scenario => {
    for (const [mode, expected] of Object.entries(REST_MESSAGES)) {
      const settings = mode === 'exclude' ? {} : { rest_messages_in_conversation_list: mode };
      for (const kind of KINDS) {
        const begin = async t => {
          const { tom, jerry, at, chatType, group } = await talk(t, kind);
          const send = msg => t.rest.send(tom.id, at(tom), { type: 'txt', body: { msg } }, { groups: Boolean(group) });
          const shown = async device => {
            const unpaged = (await device.list()).map(({ text }) => text);
            const paged = (await device.list({ pageNum: 1, pageSize: 20 })).map(({ text }) => text);
            const byCursor = (await device.conversations()).conversations.map(({ lastMessage }) => lastMessage.msg);
            assert.deepEqual(paged, unpaged);
            assert.deepEqual(byCursor, unpaged);
            return unpaged;
          };
          return { tom, jerry, at, chatType, send, shown };
        };

        scenario(`${mode}, ${kind}: a conversation of REST messages alone`, async t => {
          const { tom, jerry, at, chatType, send, shown } = await begin(t);
          await send('by rest');
          await t.message(jerry, 'by rest');
          assert.deepEqual(await shown(jerry), expected.rest);
          assert.deepEqual(await shown(tom), expected.rest);
          assert.deepEqual(await jerry.texts(at(jerry), { chatType }), ['by rest']);
        }, { settings });

        scenario(`${mode}, ${kind}: a conversation of both`, async t => {
          const { tom, jerry, at, chatType, send, shown } = await begin(t);
          await tom.say(at(tom), 'by client', { chatType });
          await send('by rest');
          assert.deepEqual(await shown(jerry), expected.mixed);
          const unread = async () => (await jerry.entry(at(jerry)))?.unread_num;
          const counted = { exclude: undefined, ignore: 1, write: 2 };
          assert.equal(await unread(), counted[mode]);
          await tom.say(at(tom), 'client again', { chatType });
          assert.deepEqual(await shown(jerry), expected.after);
          assert.deepEqual(await shown(tom), expected.after);
          assert.equal(await unread(), mode === 'write' ? 3 : 2);
          assert.deepEqual(await jerry.texts(at(jerry), { chatType }), ['by client', 'by rest', 'client again']);
        }, { settings });
      }

      scenario(`${mode}: an imported message makes a conversation, and is not unread`, async t => {
        const [tom, jerry] = await t.openAll('tom', 'jerry');
        await imported(t, tom.id, jerry.id, 'old', Date.now() - 5_000);
        await imported(t, tom.id, jerry.id, 'older', Date.now() - 9_000, { read: true });
        const entry = await jerry.entry(tom.id);
        assert.equal(entry.text, 'old');
        assert.equal(entry.unread_num, 0);
        assert.deepEqual(await jerry.texts(tom.id), ['older', 'old']);
        assert.equal((await tom.entry(jerry.id)).unread_num, 0);
      }, { settings });
    }

    scenario('an imported group conversation keeps its times', async t => {
      const { tom, jerry, group } = await talk(t, 'group');
      const at = Date.now() - 3 * DAY;
      const first = await imported(t, tom.id, group, 'one', at, { group: true });
      const second = await imported(t, jerry.id, group, 'two', at + 1, { group: true });
      const { messages } = await tom.history(group, { chatType: 'groupChat', searchDirection: 'down' });
      assert.deepEqual(messages.map(({ id, time, from }) => [id, time, from]), [[first, at, tom.id], [second, at + 1, jerry.id]]);
      assert.equal((await tom.entry(group)).lastMessage.time, at + 1);
    });
  });
}
