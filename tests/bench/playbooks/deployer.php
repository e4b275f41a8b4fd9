<?php

/**
 * The deploy of tests/bench/playbooks/role.yml by Deployer: rsync, after a copy of the live release was made
 * (rsync:warmup), so that it sends what differs. Variables: the JSON in OXISTRANO_BENCH.
 */

namespace Deployer;

require 'recipe/common.php';
require 'contrib/rsync.php';

$told = json_decode(getenv('OXISTRANO_BENCH'), true);

host($told['host'])
    ->setPort($told['port'])
    ->setRemoteUser($told['user'])
    ->setIdentityFile($told['key'])
    ->setSshArguments($told['arguments'])
    ->setSshMultiplexing(true)
    ->setSshControlPath($told['socket'])
    ->setDeployPath($told['deploy_to']);

set('release_name', $told['version']);
set('keep_releases', $told['keep']);
set('shared_dirs', ['var', 'pub/media']);
set('shared_files', ['app/etc/env.php']);
set('rsync_src', $told['tree']);
// With times, so that it compares no contents, and owners, as the others have them.
set('rsync', ['flags' => 'az', 'timeout' => 3600] + get('rsync'));

task('deploy', [
    'deploy:setup',
    'deploy:lock',
    'deploy:release',
    'rsync:warmup',
    'rsync',
    'deploy:shared',
    'deploy:symlink',
    'deploy:unlock',
    'deploy:cleanup',
]);
