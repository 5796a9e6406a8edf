//! The second talk: conversations and messages kept on the server, through the Easemob door.
//!
//! Anna and Ben write, ask for their conversation lists and their history, and delete: what one of them
//! removes for itself, a conversation for both.

use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use posthouse_easemob::wire::proto::Meta;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{DemoTarget, Error, Page};
use crate::peer;
use crate::peer::easemob::{Device, Identity, Rest, Sent, text_of};

/// A customer, with an app that was made for Easemob.
const ANNA: &str = "anna";
/// The other one.
const BEN: &str = "ben";
/// The password of both.
pub(super) const PASSWORD: &str = "not-a-secret-in-a-demo";

/// Lets Anna and Ben talk and delete, and prints what happens.
pub async fn talk(server: &DemoTarget, out: &mut impl Write) -> Result<(), Error> {
    let mut page = Page { out };
    page.text(&format!(
        "\n\nAnna and Ben use the same server through its other door, as the Easemob Web SDK does\n\
         (app key {}).",
        server.easemob_appkey
    ))?;
    page.heading("They register and log in")?;
    let started = Instant::now();
    let rest = Rest::new(&server.url, &server.easemob_appkey);
    let token = rest
        .app_token(&server.easemob_client_id, &server.easemob_client_secret)
        .await
        .map_err(step("the back end"))?;
    register(&rest.with_token(&token)).await?;
    page.line("", "the customer's back end registers both", Some(started.elapsed()))?;
    let mut anna = User::enter(server, &rest, ANNA, &mut page).await?;
    let mut ben = User::enter(server, &rest, BEN, &mut page).await?;

    page.heading("They talk")?;
    let first = anna.say(BEN, "Shall we meet at eight?", &mut page).await?;
    let second = anna.say(BEN, "My door code is 4711.", &mut page).await?;
    ben.receive(2, &mut page).await?;

    page.heading("Ben takes a new device: it asks the server")?;
    ben.list(&mut page).await?;
    ben.history(ANNA, &mut page).await?;

    page.heading("Anna removes a message for herself, Ben still has it")?;
    anna.remove(BEN, &second, &mut page).await?;
    anna.history(BEN, &mut page).await?;
    ben.history(ANNA, &mut page).await?;

    page.heading("Ben deletes the conversation and its messages: gone for both")?;
    ben.delete_conversation(ANNA, &mut page).await?;
    ben.list(&mut page).await?;
    anna.list(&mut page).await?;
    anna.history(BEN, &mut page).await?;
    page.line("", &format!("(the server's ids were {} and {})", first.id, second.id), None)?;
    for user in [anna, ben] {
        user.device.logout().await.map_err(step(user.name))?;
    }
    Ok(())
}

/// Registers both; a demo that was started before on the same data finds them.
async fn register(app: &Rest) -> Result<(), Error> {
    let users: Vec<Value> =
        [ANNA, BEN].iter().map(|name| json!({ "username": name, "password": PASSWORD })).collect();
    app.ok("POST", "/users", Some(&Value::from(users))).await.map_err(step("the back end"))?;
    Ok(())
}

fn step(who: &'static str) -> impl Fn(peer::Error) -> Error {
    move |source| Error::Step { who, source }
}

/// A user with one device and the REST calls of its SDK.
struct User {
    name: &'static str,
    device: Device,
    rest: Rest,
}

impl User {
    async fn enter(
        server: &DemoTarget,
        rest: &Rest,
        name: &'static str,
        page: &mut Page<'_>,
    ) -> Result<Self, Error> {
        let started = Instant::now();
        let token = rest.user_token(name, PASSWORD).await.map_err(step(name))?;
        let identity = Identity {
            app_key: server.easemob_appkey.clone(),
            name: name.to_owned(),
            resource: format!("webim_web_{name}"),
            token: token.clone(),
        };
        let device = Device::login(&server.url, identity).await.map_err(step(name))?;
        page.line(name, "logs in with a password", Some(started.elapsed()))?;
        Ok(Self { name, device, rest: rest.with_token(&token) })
    }

    async fn say(&mut self, to: &str, text: &str, page: &mut Page<'_>) -> Result<Sent, Error> {
        let started = Instant::now();
        let to = self.device.person(to);
        let sent = self.device.say(&to, text).await.map_err(step(self.name))?;
        page.line(self.name, &format!("says \"{text}\", and it is on disk"), Some(started.elapsed()))?;
        Ok(sent)
    }

    /// Receives so many messages, and acknowledges them.
    async fn receive(&mut self, count: usize, page: &mut Page<'_>) -> Result<(), Error> {
        let mut received = 0;
        while received < count {
            let started = Instant::now();
            for meta in self.device.next().await.map_err(step(self.name))? {
                let line = format!("receives \"{}\"", text_of(&meta));
                page.line(self.name, &line, Some(started.elapsed()))?;
                received += 1;
            }
        }
        Ok(())
    }

    /// `fetchConversationsFromServerWithPage(20, 1)`.
    async fn list(&self, page: &mut Page<'_>) -> Result<(), Error> {
        let started = Instant::now();
        let path = format!("/users/{}/user_channels/page?pageNum=1&pageSize=20", self.name);
        let answer = self.rest.ok("GET", &path, None).await.map_err(step(self.name))?;
        let lines = answer["data"]["channel_infos"].as_array().cloned().unwrap_or_default();
        let what = format!("asks for the first page of conversations: {}", lines.len());
        page.line(self.name, &what, Some(started.elapsed()))?;
        for line in lines {
            let newest = line["meta"]["payload"].as_str().unwrap_or_default();
            let newest: Value = serde_json::from_str(newest).unwrap_or_default();
            let with = line["channel_id"].as_str().unwrap_or_default();
            let text =
                format!("  {with}, {} unread, newest: {}", line["unread_num"], newest["bodies"][0]["msg"]);
            page.line("", &text, None)?;
        }
        Ok(())
    }

    /// `fetchHistoryMessages`.
    async fn history(&self, with: &str, page: &mut Page<'_>) -> Result<(), Error> {
        let started = Instant::now();
        let path = format!("/users/{}/messageroaming", self.name);
        let wish = json!({
            "queue": format!("{with}@easemob.com"), "start": -1, "end": -1, "pull_number": 50,
            "is_positive": true,
        });
        let answer = self.rest.ok("POST", &path, Some(&wish)).await.map_err(step(self.name))?;
        let messages = answer["data"]["msgs"].as_array().cloned().unwrap_or_default();
        let what = format!("reads the history with {with}: {} messages", messages.len());
        page.line(self.name, &what, Some(started.elapsed()))?;
        for message in messages {
            let bytes = STANDARD.decode(message["msg"].as_str().unwrap_or_default()).unwrap_or_default();
            let meta = Meta::decode(bytes.as_slice()).unwrap_or_default();
            let from = meta.from.clone().unwrap_or_default();
            page.line("", &format!("  {}: \"{}\"", from.name(), text_of(&meta)), None)?;
        }
        Ok(())
    }

    /// `removeMessagesFromServerWithMsgIds`.
    async fn remove(&self, with: &str, message: &Sent, page: &mut Page<'_>) -> Result<(), Error> {
        let started = Instant::now();
        let path = format!(
            "/sdk/message/roaming/chat/user/{}?userId={with}&msgIdList={}&resource=webim_web_{}",
            self.name, message.id, self.name
        );
        self.rest.ok("DELETE", &path, None).await.map_err(step(self.name))?;
        page.line(self.name, "removes the message with the code from the server", Some(started.elapsed()))
    }

    /// `removeConversationFromServer(convId, convType, true)`.
    async fn delete_conversation(&self, with: &str, page: &mut Page<'_>) -> Result<(), Error> {
        let started = Instant::now();
        let path = format!("/user/{}/user_channel?resource=webim_web_{}", self.name, self.name);
        let wish = json!({ "channel": with, "type": "chat", "delete_roam": true });
        self.rest.ok("DELETE", &path, Some(&wish)).await.map_err(step(self.name))?;
        page.line(self.name, "deletes the conversation with its messages", Some(started.elapsed()))
    }
}
