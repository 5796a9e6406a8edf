// The server goes and comes back on the same data. Last of all suites.

import assert from 'node:assert/strict';

import { create, seenBy, sendTexts, textsOf } from './shared.mjs';

const TIMEOUT = { timeout: 30_000 };

/** Waits until the SDK is connected again, without its growing delays. */
async function reconnected(t, client) {
  await t.until(`${client.id} is connected again`, () => {
    const connection = client._connection;
    if (connection.is('connected')) return true;
    if (connection.can('retry')) connection.retry();
    return false;
  });
  await t.event(client, 'reconnect');
}

async function talk(t) {
  const tom = await t.open('tom');
  const jerry = await t.open('jerry');
  const ordinary = await create(t, 'ordinary', tom, 'jerry', 'mary');
  const temporary = await create(t, 'temporary', tom, 'jerry', 'mary');
  for (const conversation of [ordinary, temporary]) {
    await sendTexts(t, tom, conversation, 'one', 'two');
    await t.message(jerry, 'two', conversation);
  }
  ordinary.set('attr.kept', true);
  await ordinary.save();
  return { tom, jerry, ordinary, temporary };
}

async function asBefore(t, { tom, jerry, ordinary, temporary }) {
  const mary = await t.open('mary');
  const [conversations] = await t.event(mary, 'unreadmessagescountupdate', found => found.length === 2);
  for (const { unreadMessagesCount } of conversations) assert.equal(unreadMessagesCount, 2);
  for (const conversation of [ordinary, temporary]) {
    assert.deepEqual(textsOf(await conversation.queryMessages()), ['one', 'two']);
    const atMary = await seenBy(mary, conversation);
    assert.deepEqual([...atMary.members].sort(), [jerry.id, mary.id, tom.id].sort());
    await sendTexts(t, tom, conversation, 'three');
    await t.message(jerry, 'three', conversation);
    const times = (await conversation.queryMessages()).map(({ timestamp }) => Number(timestamp));
    assert.deepEqual(times, [...times].sort((a, b) => a - b));
  }
  const fresh = await seenBy(mary, ordinary);
  assert.deepEqual(fresh.get('attr'), { kept: true });
  const again = await create(t, 'temporary', tom, 'jerry', 'mary');
  assert.equal(again.id, temporary.id);
}

/** How often the SDK opened a session: more than once means a refused token. */
function countOpens(client) {
  const counter = { opens: 0 };
  const open = client._open;
  client._open = function countedOpen(...args) {
    counter.opens += 1;
    return open.apply(this, args);
  };
  return counter;
}

export default function restart(ring) {
  ring.suite('restart', scenario => {
    scenario('a drain says goaway, and everything is there afterwards', async t => {
      const state = await talk(t);
      const expire = new Promise(resolve => {
        const { _connection: connection } = state.tom;
        const handle = connection.handleMessage;
        connection.handleMessage = function watch(data) {
          const { GenericCommand, CommandType } = state.tom.AV.Protocals;
          if (GenericCommand.decode(data).cmd === CommandType.goaway) resolve();
          return handle.call(this, data);
        };
      });
      const opens = [state.tom, state.jerry].map(countOpens);
      const stopped = t.server.stop('SIGTERM');
      await expire;
      await stopped;
      await t.server.start();
      await Promise.all([reconnected(t, state.tom), reconnected(t, state.jerry)]);
      for (const { opens: count } of opens) assert.equal(count, 1, 'the old token is good');
      await asBefore(t, state);
    }, TIMEOUT);

    scenario('a kill loses nothing that was acked', async t => {
      const state = await talk(t);
      await t.server.stop('SIGKILL');
      await t.server.start();
      await Promise.all([reconnected(t, state.tom), reconnected(t, state.jerry)]);
      await asBefore(t, state);
    }, TIMEOUT);

    scenario('a temporary conversation keeps its remaining time', async t => {
      const tom = await t.open('tom');
      const began = Date.now();
      const conversation = await tom.createTemporaryConversation({ members: [t.name('jerry')], ttl: 6 });
      await t.server.stop('SIGTERM');
      await t.server.start();
      const again = await t.open('tom');
      const count = () =>
        t.raw(again, { cmd: 'conv', op: 'count', convMessage: { cid: conversation.id } }).then(
          () => undefined,
          error => error.code,
        );
      if (Date.now() - began < 5_000) assert.equal(await count(), undefined, 'alive after the restart');
      await t.until('it is over', async () => (await count()) === 4323);
      const lived = Date.now() - began;
      assert.ok(lived >= 5_900 && lived < 12_000, `it lived for ${lived} ms`);
    }, TIMEOUT);
  });
}
