// All suites in the order in which they run; the one that restarts the server is last.

import chatRooms from './chat-rooms.mjs';
import conversations from './conversations.mjs';
import errors from './errors.mjs';
import featureTable from './feature-table.mjs';
import history from './history.mjs';
import messages from './messages.mjs';
import notifications from './notifications.mjs';
import page from './page.mjs';
import patches from './patches.mjs';
import presence from './presence.mjs';
import queries from './queries.mjs';
import receipts from './receipts.mjs';
import restart from './restart.mjs';
import sessions from './sessions.mjs';
import temporary from './temporary.mjs';
import unread from './unread.mjs';
import wills from './wills.mjs';

export default function defineSuites(ring) {
  for (const define of [
    page,
    featureTable,
    sessions,
    conversations,
    queries,
    temporary,
    chatRooms,
    messages,
    receipts,
    unread,
    history,
    patches,
    notifications,
    wills,
    presence,
    errors,
    restart,
  ]) {
    define(ring);
  }
}
