//! A session ends.

use crate::session::{Caller, Ending};

use super::Posthouse;

impl Posthouse {
    /// Ends a session. After a lost connection the client counts as present until its grace time
    /// is over; then [`Posthouse::sweep`] sends its will and tells who watches it.
    pub fn close_session(&self, caller: &Caller, how: Ending) {
        let app = self.app(&caller.app.id).unwrap_or_else(|| caller.app.clone());
        self.router.close(caller, how, &app.settings, self.clock.now());
    }
}
