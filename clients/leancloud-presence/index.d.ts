import { Plugin } from 'leancloud-realtime';

/** Who of a conversation's members is online and who is not. */
export interface Presence {
  online: string[];
  offline: string[];
}

/** What the plugin adds to every conversation. */
export interface PresenceConversation {
  /** `ttl`: seconds after which the server may forget the subscription; the plugin renews it in time. */
  subscribePresence(options?: { ttl?: number }): Promise<Presence>;
  unsubscribePresence(): Promise<void>;
  on(event: 'presence', listener: (changes: Presence) => void): this;
  on(event: 'presenceend', listener: (error: Error & { code: number }) => void): this;
}

/** Goes into the `plugins` of `new Realtime({ … })`. */
export const PresencePlugin: Plugin;
