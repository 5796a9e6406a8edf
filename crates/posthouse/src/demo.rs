//! `posthouse demo`: two scripted clients talk over real sockets, and each step is printed for a
//! person to read. What is printed has happened: every line waits for the frame that it tells of.
//!
//! [`talk`] is the talk, [`invite`] says how to join with an official SDK, [`keep_company`] lets Tom
//! stay and answer whoever does.

pub mod kept;

use std::io::{self, Write};
use std::time::Duration;

use posthouse_leancloud::wire::proto::{
    CommandType, DirectCommand, GenericCommand, LogItem, OpType, StatusType,
};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::peer::{self, Open, Outgoing, Peer, Sent};

/// The customer.
const TOM: &str = "Tom";
/// The agent.
const JERRY: &str = "Jerry";
/// How long the conversation lives.
const TTL_S: i32 = 3_600;
/// Where the times stand.
const TIME_COLUMN: usize = 88;
/// `_lctype` of what is left of a recalled message.
const RECALLED: i64 = -127;
/// The JavaScript SDK's heartbeat.
const ECHO_EVERY: Duration = Duration::from_secs(180);

/// Where the talk takes place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DemoTarget {
    /// The server, as SDKs are given it: `http://host:port`.
    pub url: String,
    /// LeanCloud App ID.
    pub app_id: String,
    /// LeanCloud App Key.
    pub app_key: String,
    /// Easemob app key, `org#app`.
    pub easemob_appkey: String,
    /// The client id of the Easemob app's back end.
    pub easemob_client_id: String,
    /// The client secret of the Easemob app's back end.
    pub easemob_client_secret: String,
}

/// Why the talk ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A step did not work.
    #[error("{who} could not go on")]
    Step {
        /// Whose step.
        who: &'static str,
        /// Why.
        source: peer::Error,
    },
    /// Something else came than should have.
    #[error("{who} expected {expected}, but got {got}")]
    Unexpected {
        /// Whose step.
        who: &'static str,
        /// In words.
        expected: &'static str,
        /// In words.
        got: String,
    },
    /// Nowhere to print.
    #[error("the talk could not be printed")]
    Output(#[from] io::Error),
}

/// Tom, still online after the talk.
#[derive(Debug)]
pub struct Tom(Actor);

/// Lets Tom and Jerry talk and prints what happens. Tom stays online as long as the answer is kept;
/// Jerry has gone.
pub async fn talk(server: &DemoTarget, out: &mut impl Write) -> Result<Tom, Error> {
    let mut page = Page { out };
    page.text(&format!(
        "Tom, a customer, and Jerry, an agent, talk through {}.\n\
         Both are LeanCloud clients on sockets of their own. The times at the right run from an\n\
         action until its effect has arrived at the person named.",
        server.url
    ))?;

    page.heading("They meet")?;
    let mut tom = Actor::enter(server, TOM, &mut page).await?;
    let mut jerry = Actor::enter(server, JERRY, &mut page).await?;
    let cid = meet(&mut tom, &mut jerry, &mut page).await?;

    page.heading("They talk")?;
    let hello = "Hello! Where is my parcel?";
    let answer = "Good morning, Tom. It left our house today.";
    say_and_read(&mut tom, &mut jerry, &cid, hello, &mut page).await?;
    say_and_read(&mut jerry, &mut tom, &cid, answer, &mut page).await?;

    page.heading("Jerry goes away and comes back")?;
    let started = Instant::now();
    jerry.leave(&mut page).await?;
    tom.hear_status(JERRY, StatusType::Off).await?;
    page.line(TOM, "sees that Jerry is offline", Some(started.elapsed()))?;
    let thanks = tom.say(&cid, "Thank you! Will it be here on Munday?", &mut page).await?;
    let phone = tom.say(&cid, "My secret number is 1234.", &mut page).await?;
    let mut jerry = come_back(server, &mut tom, &cid, (&thanks, &phone), &mut page).await?;

    page.heading("Tom corrects himself")?;
    mend(&mut tom, &mut jerry, &cid, (&thanks, &phone), &mut page).await?;
    page.line(JERRY, "reads history again:", None)?;
    jerry.read_history(&cid, &mut page).await?;
    jerry.leave(&mut page).await?;
    page.text("\nThe conversation and all in it will be gone one hour after it was opened.")?;
    Ok(Tom(tom))
}

/// Prints what a person needs to join: URL, ids, and a program for the official JavaScript SDK.
pub fn invite(server: &DemoTarget, out: &mut impl Write) -> io::Result<()> {
    let DemoTarget { url, app_id, app_key, easemob_appkey, .. } = server;
    let program = JOIN
        .replace("APP_ID", &Value::from(app_id.as_str()).to_string())
        .replace("APP_KEY", &Value::from(app_key.as_str()).to_string())
        .replace("SERVER", &Value::from(url.as_str()).to_string());
    write!(
        out,
        "\nNow you. The server keeps running:\n\n\
         \x20 URL      {url}\n\
         \x20 App ID   {app_id}\n\
         \x20 App Key  {app_key}\n\
         \x20 Easemob  {easemob_appkey}, users anna and ben, password {password}\n\n\
         Paste this into another terminal (Node.js 18 or newer) to join Tom as Jerry with the official SDK:\n\n\
         mkdir -p posthouse-hello && cd posthouse-hello && npm init -y >/dev/null\n\
         npm install leancloud-realtime@5.0.0-rc.8\n\
         cat > hello.js <<'END'\n{program}END\n\
         node hello.js\n\n\
         Ctrl-C ends the demo.\n\n",
        password = kept::PASSWORD
    )?;
    out.flush()
}

/// The same two members get the same temporary conversation as long as it lives, and a new one
/// afterwards: so the program works at any time.
const JOIN: &str = r"const { Realtime, TextMessage } = require('leancloud-realtime');

const realtime = new Realtime({
  appId: APP_ID,
  appKey: APP_KEY,
  server: SERVER,
});

async function main() {
  const jerry = await realtime.createIMClient('Jerry');
  jerry.on('message', (message) => console.log(`${message.from}: ${message.text}`));
  const chat = await jerry.createTemporaryConversation({ members: ['Tom'], ttl: 3600 });
  for (const message of await chat.queryMessages({ limit: 10 })) {
    console.log(`(earlier) ${message.from}: ${message.text || '(recalled)'}`);
  }
  await chat.send(new TextMessage('Hello from Node!'));
  console.log('sent; Ctrl-C to leave');
}

main().catch(console.error);
";

/// Lets Tom answer every message until the server closes his connection.
pub async fn keep_company(tom: Tom, out: &mut impl Write) -> Result<(), Error> {
    let Tom(mut tom) = tom;
    let mut page = Page { out };
    let mut heartbeat = interval_at(Instant::now() + ECHO_EVERY, ECHO_EVERY);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Those that came while Tom was busy with the talk are old news.
    drop(tom.peer.take_pushes());
    loop {
        let received = tokio::select! {
            received = tom.peer.receive() => received,
            _ = heartbeat.tick() => {
                tom.peer.send(&peer::command(CommandType::Echo, None)).await.map_err(tom.step())?;
                continue;
            }
        };
        match received {
            Ok(GenericCommand { direct_message: Some(message), .. }) => {
                tom.answer(&message, &mut page).await?;
            }
            Ok(_) => {}
            Err(peer::Error::Closed { .. }) => return Ok(()),
            Err(source) => return Err(tom.step()(source)),
        }
    }
}

async fn meet(tom: &mut Actor, jerry: &mut Actor, page: &mut Page<'_>) -> Result<String, Error> {
    let started = Instant::now();
    let conversation = tom.peer.create_temporary(TOM, &[JERRY], Some(TTL_S)).await.map_err(tom.step())?;
    let cid = conversation.cid;
    if conversation.existing {
        page.line(TOM, "finds his temporary conversation with Jerry again", Some(started.elapsed()))?;
    } else {
        page.line(TOM, "opens a temporary conversation with Jerry, for one hour", Some(started.elapsed()))?;
        let joined = jerry
            .peer
            .expect("the invitation", |push| {
                peer::is(push, CommandType::Conv, Some(OpType::Joined))
                    && push.conv_message.as_ref().is_some_and(|conv| conv.cid.as_deref() == Some(&cid))
            })
            .await
            .map_err(jerry.step())?;
        let by = joined.conv_message.and_then(|conv| conv.init_by).unwrap_or_default();
        page.line(JERRY, &format!("hears of it: {by} invited him"), Some(started.elapsed()))?;
    }

    let started = Instant::now();
    let view = tom.peer.watch_presence(TOM, &cid, true).await.map_err(tom.step())?;
    let online = view.session_message.unwrap_or_default().online_session_peer_ids;
    if !online.iter().any(|client| client == JERRY) {
        return Err(Error::Unexpected { who: TOM, expected: "Jerry online", got: format!("{online:?}") });
    }
    page.line(TOM, "asks who is here, now and from now on: Jerry is online", Some(started.elapsed()))?;
    Ok(cid)
}

/// `from` says `text` and wants receipts, `to` receives and reads it.
async fn say_and_read(
    from: &mut Actor,
    to: &mut Actor,
    cid: &str,
    text: &str,
    page: &mut Page<'_>,
) -> Result<(), Error> {
    let started = Instant::now();
    let sent = from.say(cid, text, page).await?;
    let message = to.peer.expect_message(cid).await.map_err(to.step())?;
    let heard = content_in_words(message.msg.as_deref().unwrap_or_default());
    page.line(to.name, &format!("receives {heard}"), Some(started.elapsed()))?;

    let started = Instant::now();
    to.peer.ack(to.name, cid, sent.at, sent.at).await.map_err(to.step())?;
    from.hear_receipt(&sent, false).await?;
    page.line(from.name, &format!("sees: delivered to {}", to.name), Some(started.elapsed()))?;

    let started = Instant::now();
    to.peer.read(to.name, cid, &sent.id, sent.at).await.map_err(to.step())?;
    from.hear_receipt(&sent, true).await?;
    page.line(from.name, &format!("sees: read by {}", to.name), Some(started.elapsed()))
}

async fn come_back(
    server: &DemoTarget,
    tom: &mut Actor,
    cid: &str,
    (first, last): (&Sent, &Sent),
    page: &mut Page<'_>,
) -> Result<Actor, Error> {
    let started = Instant::now();
    let mut jerry = Actor::enter(server, JERRY, page).await?;
    tom.hear_status(JERRY, StatusType::On).await?;
    page.line(TOM, "sees that Jerry is online", Some(started.elapsed()))?;

    let push = jerry.peer.expect_push(CommandType::Unread, None).await.map_err(jerry.step())?;
    let convs = push.unread_message.unwrap_or_default().convs;
    let Some(unread) = convs.iter().find(|unread| unread.cid.as_deref() == Some(cid)) else {
        return Err(Error::Unexpected { who: JERRY, expected: "unread messages", got: "others".to_owned() });
    };
    page.line(
        JERRY,
        &format!(
            "is told: {} unread messages, the last is {}",
            unread.unread.unwrap_or_default(),
            content_in_words(unread.data.as_deref().unwrap_or_default())
        ),
        Some(started.elapsed()),
    )?;

    page.line(JERRY, "reads history:", None)?;
    jerry.read_history(cid, page).await?;
    let started = Instant::now();
    jerry.peer.ack(JERRY, cid, first.at, last.at).await.map_err(jerry.step())?;
    tom.hear_receipt(first, false).await?;
    tom.hear_receipt(last, false).await?;
    page.line(TOM, "sees: both messages delivered to Jerry", Some(started.elapsed()))?;
    let started = Instant::now();
    jerry.peer.read(JERRY, cid, &last.id, last.at).await.map_err(jerry.step())?;
    tom.hear_receipt(last, true).await?;
    page.line(TOM, "sees: both messages read by Jerry", Some(started.elapsed()))?;
    Ok(jerry)
}

/// Tom changes the first of two messages and takes back the second.
async fn mend(
    tom: &mut Actor,
    jerry: &mut Actor,
    cid: &str,
    (wrong, secret): (&Sent, &Sent),
    page: &mut Page<'_>,
) -> Result<(), Error> {
    let right = "Thank you! Will it be here on Monday?";
    let started = Instant::now();
    tom.peer.modify(TOM, cid, wrong, right).await.map_err(tom.step())?;
    page.line(TOM, &format!("changes a message to \"{right}\""), Some(started.elapsed()))?;
    let content = jerry.hear_patch(wrong).await?;
    page.line(JERRY, &format!("sees it change to {}", content_in_words(&content)), Some(started.elapsed()))?;

    let started = Instant::now();
    tom.peer.recall(TOM, cid, secret).await.map_err(tom.step())?;
    page.line(TOM, "recalls the message with his number", Some(started.elapsed()))?;
    let content = jerry.hear_patch(secret).await?;
    if !is_recalled(&content) {
        let got = content_in_words(&content);
        return Err(Error::Unexpected { who: JERRY, expected: "a recalled message", got });
    }
    page.line(JERRY, "sees it disappear", Some(started.elapsed()))
}

/// A client with its socket.
#[derive(Debug)]
struct Actor {
    name: &'static str,
    peer: Peer,
}

impl Actor {
    async fn enter(server: &DemoTarget, name: &'static str, page: &mut Page<'_>) -> Result<Self, Error> {
        let step = |source| Error::Step { who: name, source };
        let started = Instant::now();
        let mut peer = Peer::discover(&server.url, &server.app_id, peer::BINARY).await.map_err(step)?;
        peer.open(&server.app_id, name, Open::default()).await.map_err(step)?;
        page.line(name, "finds the server and logs in", Some(started.elapsed()))?;
        Ok(Self { name, peer })
    }

    fn step(&self) -> impl Fn(peer::Error) -> Error + use<> {
        let who = self.name;
        move |source| Error::Step { who, source }
    }

    async fn leave(&mut self, page: &mut Page<'_>) -> Result<(), Error> {
        let started = Instant::now();
        self.peer.close(self.name).await.map_err(self.step())?;
        page.line(self.name, "logs out", Some(started.elapsed()))
    }

    async fn say(&mut self, cid: &str, text: &str, page: &mut Page<'_>) -> Result<Sent, Error> {
        let started = Instant::now();
        let how = Outgoing { receipt: true, ..Outgoing::default() };
        let sent = self.peer.send_text(self.name, cid, text, how).await.map_err(self.step())?;
        page.line(self.name, &format!("says \"{text}\", and it is on disk"), Some(started.elapsed()))?;
        Ok(sent)
    }

    async fn hear_receipt(&mut self, sent: &Sent, read: bool) -> Result<(), Error> {
        let what = if read { "the read receipt" } else { "the delivery receipt" };
        self.peer
            .expect(what, |push| {
                push.rcp_message.as_ref().is_some_and(|receipt| {
                    receipt.id.as_deref() == Some(&sent.id) && receipt.read.unwrap_or_default() == read
                })
            })
            .await
            .map(drop)
            .map_err(self.step())
    }

    async fn hear_status(&mut self, client: &str, status: StatusType) -> Result<(), Error> {
        self.peer
            .expect("the other's online status", |push| {
                push.presence_message.as_ref().is_some_and(|presence| {
                    presence.status == Some(status.into())
                        && presence.session_peer_ids.iter().any(|id| id == client)
                })
            })
            .await
            .map(drop)
            .map_err(self.step())
    }

    /// The new content of a message that is changed or recalled.
    async fn hear_patch(&mut self, sent: &Sent) -> Result<Vec<u8>, Error> {
        let push = self
            .peer
            .expect("the change", |push| {
                push.i.is_none()
                    && push.patch_message.as_ref().is_some_and(|patch| {
                        patch.patches.iter().any(|item| item.mid.as_deref() == Some(&sent.id))
                    })
            })
            .await
            .map_err(self.step())?;
        let items = push.patch_message.unwrap_or_default().patches;
        Ok(items.into_iter().find_map(|item| item.data).unwrap_or_default().to_vec())
    }

    /// The four messages of this talk.
    async fn read_history(&mut self, cid: &str, page: &mut Page<'_>) -> Result<(), Error> {
        let started = Instant::now();
        let items = self.peer.history(self.name, cid, 4).await.map_err(self.step())?;
        let took = started.elapsed();
        for (at, item) in items.iter().enumerate() {
            let from = item.from.as_deref().unwrap_or_default();
            let content = content_in_words(item.data.as_deref().unwrap_or_default());
            let line = format!("  {from}: {content} {}", state_in_words(item));
            page.line("", line.trim_end(), (at == 0).then_some(took))?;
        }
        Ok(())
    }

    async fn answer(&mut self, message: &DirectCommand, page: &mut Page<'_>) -> Result<(), Error> {
        let (Some(cid), Some(id), Some(at)) = (&message.cid, &message.id, message.timestamp) else {
            return Ok(());
        };
        let from = message.from_peer_id.as_deref().unwrap_or_default();
        if from == self.name {
            return Ok(());
        }
        self.peer.ack(self.name, cid, at, at).await.map_err(self.step())?;
        self.peer.read(self.name, cid, id, at).await.map_err(self.step())?;
        let content = content_in_words(message.msg.as_deref().unwrap_or_default());
        page.line(self.name, &format!("receives {content} from {from}"), None)?;
        let answer = format!("Hello {from}, I am only a script, but I hear you.");
        self.say(cid, &answer, page).await.map(drop)
    }
}

/// Where the talk is printed.
struct Page<'a> {
    out: &'a mut dyn Write,
}

impl Page<'_> {
    fn heading(&mut self, text: &str) -> Result<(), Error> {
        self.text(&format!("\n{text}\n"))
    }

    fn text(&mut self, text: &str) -> Result<(), Error> {
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }

    fn line(&mut self, who: &str, text: &str, took: Option<Duration>) -> Result<(), Error> {
        self.text(&line(who, text, took))
    }
}

fn line(who: &str, text: &str, took: Option<Duration>) -> String {
    let said = format!("  {who:<6} {text}");
    match took {
        Some(took) => format!("{said:<TIME_COLUMN$} {:>7.1} ms", took.as_secs_f64() * 1_000.0),
        None => said,
    }
}

fn content_in_words(content: &[u8]) -> String {
    match peer::text_of(content) {
        Some(text) => format!("\"{text}\""),
        None if is_recalled(content) => "(recalled)".to_owned(),
        None => "(not a text)".to_owned(),
    }
}

fn is_recalled(content: &[u8]) -> bool {
    let content: Option<Value> = serde_json::from_slice(content).ok();
    content.as_ref().and_then(|content| content.get("_lctype")?.as_i64()) == Some(RECALLED)
}

fn state_in_words(item: &LogItem) -> &'static str {
    let recalled = is_recalled(item.data.as_deref().unwrap_or_default());
    match (item.patch_timestamp, item.read_at, item.ack_at) {
        (Some(_), _, _) if recalled => "",
        (Some(_), _, _) => "(changed)",
        (None, Some(_), _) => "(read)",
        (None, None, Some(_)) => "(delivered)",
        (None, None, None) => "(sent)",
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn times_stand_in_one_column() {
        let short = line(TOM, "logs out", Some(Duration::from_micros(1_250)));
        let long = line(JERRY, "receives \"Hello! Where is my parcel?\"", Some(Duration::from_millis(250)));
        assert_eq!(short.len(), long.len());
        assert!(short.ends_with("    1.2 ms") && long.ends_with("  250.0 ms"), "{short}\n{long}");
        assert_eq!(line(TOM, "waits", None), "  Tom    waits");
    }

    #[test]
    fn contents_are_told_in_words() {
        assert_eq!(content_in_words(peer::text_content("a \"b\"").as_bytes()), "\"a \"b\"\"");
        assert_eq!(content_in_words(br#"{"_lctype":-127}"#), "(recalled)");
        assert_eq!(content_in_words(b"x"), "(not a text)");
    }

    #[test]
    fn the_program_to_paste_has_the_ids_as_javascript_texts() {
        let target = DemoTarget {
            url: "http://127.0.0.1:7700".to_owned(),
            app_id: "it's \"mine\"".to_owned(),
            app_key: "KEY".to_owned(),
            easemob_appkey: "org#app".to_owned(),
            easemob_client_id: "ID".to_owned(),
            easemob_client_secret: "SECRET".to_owned(),
        };
        let mut out = Vec::new();
        invite(&target, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(r#"appId: "it's \"mine\"","#), "{text}");
        assert!(text.contains(r#"server: "http://127.0.0.1:7700","#), "{text}");
        assert!(text.contains("npm install leancloud-realtime@5.0.0-rc.8\n"), "{text}");
    }
}
