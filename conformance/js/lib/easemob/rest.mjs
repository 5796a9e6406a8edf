// What a customer's back end does: the server's REST calls with the token of the app.

import assert from 'node:assert/strict';

export class Rest {
  /** `app`: what `Server.createEasemobApp` gave. */
  constructor(server, app) {
    this.server = server;
    this.app = app;
  }

  get url() {
    return `${this.server.url}/${this.app.appKey.replace('#', '/')}`;
  }

  /**
   * Sends one request and gives `{ status, body, headers }`. Every answer must
   * be a JSON object with the headers that let a page of another origin read it.
   */
  async call(method, path, { body, token, headers = {}, type = 'application/json' } = {}) {
    const response = await fetch(path.startsWith('http') ? path : `${this.url}${path}`, {
      method,
      headers: {
        ...(body === undefined || type === null ? {} : { 'Content-Type': type }),
        ...(token === null ? {} : { Authorization: `Bearer ${token ?? (await this.token())}` }),
        ...headers,
      },
      body: body === undefined || typeof body === 'string' || body instanceof FormData ? body : JSON.stringify(body),
    });
    const text = await response.text();
    const what = `${method} ${path} answered ${response.status} "${text.slice(0, 300)}"`;
    assert.match(response.headers.get('content-type') ?? '', /^application\/json/, what);
    const answer = JSON.parse(text);
    assert.equal(answer === null || Array.isArray(answer) ? 'no object' : typeof answer, 'object', what);
    assert.ok(response.headers.get('access-control-allow-origin'), `${what} without CORS headers`);
    return { status: response.status, body: answer, headers: response.headers };
  }

  /** Sends one request that must succeed; gives its body. */
  async ok(method, path, options) {
    const { status, body } = await this.call(method, path, options);
    assert.equal(status, 200, `${method} ${path} answered ${status} ${JSON.stringify(body)}`);
    return body;
  }

  /** Sends one request that must fail with this status; gives its body. */
  async fails(expected, method, path, options) {
    const { status, body } = await this.call(method, path, options);
    assert.equal(status, expected, `${method} ${path} answered ${status} ${JSON.stringify(body)}`);
    assert.equal(typeof body.error, 'string', JSON.stringify(body));
    assert.equal(typeof body.error_description, 'string', JSON.stringify(body));
    return body;
  }

  /** The token of the app. */
  token() {
    this.appToken ??= this.ok('POST', '/token', {
      token: null,
      body: {
        grant_type: 'client_credentials',
        client_id: this.app.clientId,
        client_secret: this.app.clientSecret,
      },
    }).then(({ access_token: token }) => token);
    return this.appToken;
  }

  /** Registers users, given as names or as records; those without a password log in by token only. */
  async register(...users) {
    const body = users.map(user => (typeof user === 'string' ? { username: user } : user));
    const { entities, data } = await this.ok('POST', '/users', { body });
    assert.deepEqual(entities.map(({ username }) => username).sort(), body.map(({ username }) => username).sort());
    assert.deepEqual(data ?? [], []);
    return entities;
  }

  /** A token of a user who is there, for `ttl` seconds. */
  async userToken(username, ttl) {
    const { access_token: token } = await this.ok('POST', '/token', {
      body: { grant_type: 'inherit', username, ...(ttl === undefined ? {} : { ttl }) },
    });
    return token;
  }

  /** Sends to users (or groups); gives the message id for each of them. */
  async send(from, to, message, { groups = false, ...more } = {}) {
    const { data } = await this.ok('POST', groups ? '/messages/chatgroups' : '/messages/users', {
      body: { from, to: [to].flat(), ...message, ...more },
    });
    return data;
  }

  /** Sends one text to one user; gives its id. */
  async text(from, to, msg, more) {
    const data = await this.send(from, to, { type: 'txt', body: { msg } }, more);
    assert.match(data[to], /^\d+$/);
    return data[to];
  }

  /** Creates a group; gives its id. */
  async group(owner, members = [], more = {}) {
    const { data } = await this.ok('POST', '/chatgroups', {
      body: { groupname: 'talk', description: 'of this and that', public: false, owner, members, ...more },
    });
    assert.match(data.groupid, /^\d+$/);
    return data.groupid;
  }
}
