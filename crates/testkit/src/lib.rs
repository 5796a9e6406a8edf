//! What the tests of Posthouse share: a server in their own process whose clock they move, and the
//! contract suite of the store, and a disk that loses what nobody synced. Scripted peers are [`posthouse::peer`].

pub mod disk;
pub mod process;
pub mod server;
pub mod sim;
pub mod store_suite;
pub mod time;
