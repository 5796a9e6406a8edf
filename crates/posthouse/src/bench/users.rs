//! The users of an Easemob app, whom its back end makes, brings online and puts into groups.

use serde_json::json;

use super::Error;
use super::lean::Line;
use super::server::EasemobDoor;
use crate::peer;
use crate::peer::easemob::{Identity, Rest, SOCKET_PATH};

/// The users of an Easemob app.
pub(super) struct Users {
    http: String,
    url: String,
    pub(super) app_key: String,
    app: Rest,
}

impl Users {
    pub(super) async fn of(url: &str, door: &EasemobDoor) -> Result<Self, Error> {
        let http = url.replacen("ws", "http", 1);
        let rest = Rest::new(&http, &door.app_key);
        let app = rest.with_token(&rest.app_token(&door.client_id, &door.client_secret).await?);
        let url = format!("{}{SOCKET_PATH}", url.trim_end_matches('/'));
        Ok(Self { http, url, app_key: door.app_key.clone(), app })
    }

    pub(super) async fn log_in(&self, name: &str) -> Result<Line, peer::Error> {
        let token = self.token(name).await?;
        let identity = Identity {
            app_key: self.app_key.clone(),
            name: name.to_owned(),
            resource: format!("webim_web_{name}"),
            token,
        };
        let mut line = Line::connect(&self.url, "", None).await?;
        line.provision(&identity).await?;
        line.unread().await?;
        Ok(line)
    }

    /// The token of a user, who is made if need be.
    pub(super) async fn token(&self, name: &str) -> Result<String, peer::Error> {
        let grant = json!({ "grant_type": "inherit", "username": name, "autoCreateUser": true });
        let answer = self.app.ok("POST", "/token", Some(&grant)).await?;
        let token = answer["access_token"].as_str().map(str::to_owned);
        token.ok_or_else(|| peer::Error::Incomplete {
            what: format!("the answer of {} to /token", self.http),
            field: "access_token",
        })
    }

    /// Makes a group of users who exist; gives its id. The first one owns it.
    pub(super) async fn group(&self, members: &[String]) -> Result<String, peer::Error> {
        let [owner, others @ ..] = members else { return Ok(String::new()) };
        let wish = json!({ "groupname": "bench", "desc": "bench", "public": false, "owner": owner,
                           "members": others, "maxusers": members.len() });
        let answer = self.app.ok("POST", "/chatgroups", Some(&wish)).await?;
        answer["data"]["groupid"].as_str().map(str::to_owned).ok_or_else(|| peer::Error::Incomplete {
            what: "the answer to /chatgroups".to_owned(),
            field: "data.groupid",
        })
    }
}
