// All Easemob suites; scenarios that are `alone` run after all others.

import changes from './changes.mjs';
import compression from './compression.mjs';
import contacts from './contacts.mjs';
import conversations from './conversations.mjs';
import crossover from './crossover.mjs';
import deletion from './deletion.mjs';
import devices from './devices.mjs';
import discovery from './discovery.mjs';
import errors from './errors.mjs';
import files from './files.mjs';
import groups from './groups.mjs';
import history from './history.mjs';
import login from './login.mjs';
import messages from './messages.mjs';
import offline from './offline.mjs';
import page from './page.mjs';
import receipts from './receipts.mjs';
import removal from './removal.mjs';
import restart from './restart.mjs';
import switches from './switches.mjs';

export default function defineSuites(ring) {
  for (const define of [
    page,
    login,
    devices,
    messages,
    offline,
    files,
    receipts,
    changes,
    conversations,
    history,
    removal,
    deletion,
    switches,
    groups,
    contacts,
    errors,
    discovery,
    compression,
    crossover,
    restart,
  ]) {
    define(ring);
  }
}
