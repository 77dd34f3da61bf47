//! Metadata made by the model kernel's writer and by thin-provisioning-tools, read again.

mod answers;
mod damage;
mod pool;
mod tools;
