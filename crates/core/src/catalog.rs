//! tmp
use crate::ids::SlotId;
#[derive(Debug,Clone,Copy,PartialEq,Eq,Hash)] pub enum ItemKind { Tool, Prompt, Resource, ResourceTemplate }
#[derive(Debug,Clone,Copy,PartialEq,Eq,Hash,Default)] pub struct Digest(pub [u8;16]);
pub struct Entry<'a>{ pub slot: SlotId, pub server:&'a str, pub name:&'a str }
pub struct Exposure { pub exposed: String, pub entry: usize }
pub struct Quarantine { pub entry: usize, pub reason: String }
pub struct Merged { pub exposures: Vec<Exposure>, pub quarantined: Vec<Quarantine> }
pub fn merge(_kind: ItemKind, _entries:&[Entry<'_>]) -> Merged { todo!() }
pub fn digest<'a>(_items: impl Iterator<Item=(&'a str,&'a [u8])>) -> Digest { todo!() }
