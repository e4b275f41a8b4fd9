//! `magento_consumers`, with real processes.

mod consumers;
