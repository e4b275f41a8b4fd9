//! What the `magento_*` modules share: the PHP command, Magento's answers, its
//! maintenance flag.
