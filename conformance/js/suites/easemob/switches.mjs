// Features that an app does not have.

import assert from 'node:assert/strict';

import { BOTH, bearer, talk } from './shared.mjs';

export default function switches(ring) {
  ring.suite('easemob-switches', scenario => {
    const noRoaming = { settings: { message_roaming: false } };

    scenario('no roaming: history', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await tom.say(jerry.id, 'hello');
      await t.message(jerry, 'hello');
      await t.refused(tom.history(jerry.id), 505);
      const body = { queue: `${jerry.id}@easemob.com`, start: -1, end: -1, pull_number: 10 };
      const answer = await t.rest.fails(403, 'POST', `/users/${tom.id}/messageroaming`, { body, ...bearer(tom) });
      assert.equal(answer.error_description, 'messageroaming function not open');
      assert.equal((await tom.entry(jerry.id)).text, 'hello');
    }, { ...noRoaming, ...BOTH });

    scenario('no roaming: removing messages', async t => {
      const { tom, jerry } = await talk(t, 'single');
      const id = await tom.say(jerry.id, 'hello');
      await t.refused(tom.removeMessages(jerry.id, { messageIds: [id] }), 505);
      await t.refused(tom.removeMessages(jerry.id, { beforeTimeStamp: Date.now() }), 505);
      assert.equal((await tom.entry(jerry.id)).text, 'hello');
    }, { ...noRoaming, ...BOTH });

    const noList = { settings: { conversation_list: false } };

    scenario('no conversation list', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await tom.say(jerry.id, 'hello');
      await t.refused(tom.list(), 505);
      await t.refused(tom.list({ pageNum: 1, pageSize: 10 }), 505);
      await t.refused(tom.conversations(), 505);
      assert.deepEqual(await tom.texts(jerry.id), ['hello']);
    }, { ...noList, ...BOTH });

    scenario('no conversation list, and the messages arrive', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await tom.say(jerry.id, 'hello');
      await t.message(jerry, 'hello');
    }, noList);

    scenario('a switch works at once, without a restart', async t => {
      const { tom, jerry } = await talk(t, 'single');
      await tom.say(jerry.id, 'hello');
      assert.deepEqual(await tom.peers(), [jerry.id]);
      await t.server.setApp(t.app.name, 'conversation_list=false');
      const refused = () => tom.peers().then(() => false, ({ type }) => type === 505);
      await t.until('the list is refused', refused);
      await t.server.setApp(t.app.name, 'conversation_list=true');
      await t.until('the list is given', async () => !(await refused()));
      assert.deepEqual(await tom.peers(), [jerry.id]);
      // An app of its own: the settings are those of no other scenario.
    }, { settings: { conversation_list: true } });
  });
}
