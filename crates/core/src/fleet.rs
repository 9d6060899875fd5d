//! tmp
use crate::{ids::*, lifecycle::{*, effect::*, input::*, status::*}, policy::Policy, time::Time};
pub struct Fleet; pub struct FleetPolicy { pub start_gate: usize, pub seed: u64 }
pub enum FleetInput { Add{slot: SlotId, name: Box<str>, policy: Policy, start: Start}, Patch{slot: SlotId, policy: Policy}, Replace{slot: SlotId, policy: Policy}, Remove{slot: SlotId}, Slot{slot: SlotId, input: Input}, Shutdown{impatient: bool}, Timeout }
pub enum FleetEffect { Slot{slot: SlotId, effect: Effect}, Removed{slot: SlotId}, ShutDown }
pub struct FleetEffects; impl FleetEffects { pub fn new()->Self{Self} pub fn drain(&mut self)->std::vec::IntoIter<FleetEffect>{todo!()} }
impl Fleet { pub fn new(_:FleetPolicy)->Self{Self} pub fn step(&mut self,_:Time,_:FleetInput,_:&mut FleetEffects){todo!()} pub fn next_deadline(&self)->Option<(Time,Why)>{todo!()} pub fn status(&self,_:SlotId,_:Time)->Option<Status>{todo!()} }
