//! What happens to a shop when a module is killed, when its system calls fail, when somebody
//! in the same directories means ill, when two work at once, and when there is a lot of
//! everything. `docs/trust.md` has the tables that come of it.
//!
//! * [`programs`]: a module run as Ansible does, under strace or beside others.
//! * [`scene`]: deploy roots in well-defined states, and the steps of a deploy.
//! * [`disturb`]: one system call of a run that is killed or fails.
//! * [`short`]: reads and writes that do less than they were asked to.
//! * [`verdict`]: what must hold afterwards.
//! * [`sweep`]: every disturbance of every step, one after the other.
//! * [`reborn`]: the same in a container where every process has the same number.
//! * [`stage`], [`peers`], [`calls`], [`world`], [`again`]: the same for the modules for
//!   Magento and php-fpm.
//! * [`hostile`]: a process of the web user's that swaps what it can.
//! * [`harm`]: what it must not see or change, and whether it did.
//! * [`strangers`], [`titles`]: hostile neighbours of those.
//! * [`power`], [`neighbours`], [`races`], [`load`]: the others.

pub mod again;
pub mod calls;
pub mod disturb;
pub mod harm;
pub mod hostile;
pub mod load;
pub mod neighbours;
pub mod peers;
pub mod power;
pub mod programs;
pub mod races;
pub mod reborn;
pub mod scene;
pub mod short;
pub mod stage;
pub mod strangers;
pub mod sweep;
pub mod table;
pub mod titles;
pub mod verdict;
pub mod world;
