// Conversations that many suites begin with.

export const KINDS = ['temporary', 'ordinary'];

/** A conversation of `kind` that `client` creates with the people of `labels`. */
export function create(t, kind, client, ...labels) {
  const members = labels.map(label => t.name(label));
  if (kind === 'temporary') return client.createTemporaryConversation({ members });
  return client.createConversation({ members, name: 'talk', unique: false });
}

/** The same conversation as another client of it sees it. */
export async function seenBy(client, conversation) {
  const found = await client.getConversation(conversation.id);
  if (!found) throw new Error(`${client.id} does not find ${conversation.id}`);
  return found;
}

/** Sends texts one after the other; gives the sent messages. */
export async function sendTexts(t, client, conversation, ...texts) {
  const sent = [];
  for (const text of texts) sent.push(await conversation.send(t.text(client, text)));
  return sent;
}

export const textsOf = messages => messages.map(message => message.text);

/** The answer of a history query, as it is on the wire. */
export async function rawLogs(t, client, conversation, query = {}) {
  const answer = await t.raw(client, {
    cmd: 'logs',
    logsMessage: { cid: conversation.id, ...query },
  });
  return answer.logsMessage.logs;
}

/** One row of `conv/query`, as it is on the wire, or `undefined`. */
export async function rawRow(t, client, id, flag = 0) {
  const convMessage = id.startsWith('_tmp:')
    ? { tempConvIds: [id], flag }
    : { where: t.json(client, { objectId: id }), flag };
  const answer = await t.raw(client, { cmd: 'conv', op: 'query', convMessage });
  return JSON.parse(answer.convMessage.results.data)[0];
}
