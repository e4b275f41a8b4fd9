<?php
// Magento's command line in a session that waits for locks for so many seconds only: who waits for a table to be
// altered keeps all others waiting. Run by `php -r` with the release's root, the seconds and the command's words.
[, $root, $seconds] = $argv;
$set = json_decode((string) getenv('MAGENTO_DC__OVERRIDE'), true) ?: [];
$set['db'] = $set['db'] ?? (require "$root/app/etc/env.php")['db'];
foreach ($set['db']['connection'] as &$connection) {
    $connection['initStatements'] = rtrim($connection['initStatements'] ?? '', '; ') . "; SET SESSION lock_wait_timeout = $seconds;";
}
// In this process alone: there is a password in it.
putenv('MAGENTO_DC__OVERRIDE=' . json_encode($set));
$_SERVER['argv'] = array_merge(["$root/bin/magento"], array_slice($argv, 3));
$_SERVER['argc'] = count($_SERVER['argv']);
require "$root/app/bootstrap.php";
exit((new Magento\Framework\Console\Cli('Magento CLI'))->run());
