<?php
// What setup:upgrade of this release would do, as JSON. Run by `php -r` with the release's root as argument.
// Only a scratch schema is written, and it is dropped at the end.
use Magento\Framework\App\DeploymentConfig;
use Magento\Framework\App\ResourceConnection;
use Magento\Framework\Component\ComponentRegistrar;
use Magento\Framework\Module\DbVersionInfo;
use Magento\Framework\Module\ModuleList;
use Magento\Framework\Setup\Declaration\Schema\Diff\SchemaDiff;
use Magento\Framework\Setup\Declaration\Schema\Dto\Table;
use Magento\Framework\Setup\Declaration\Schema\Operations;
use Magento\Framework\Setup\Declaration\Schema\SchemaConfigInterface;
use Magento\Framework\Setup\Patch;

ini_set('display_errors', 'stderr');
require $argv[1] . '/app/bootstrap.php';
$om = Magento\Framework\App\Bootstrap::create(BP, $_SERVER)->getObjectManager();
$resource = $om->get(ResourceConnection::class);
$config = $om->get(DeploymentConfig::class);
// Relative to the release, where it is in there.
$within = fn (string $file) => strpos($file, BP . '/') === 0 ? substr($file, strlen(BP) + 1) : $file;
$out = ['blue_green' => (bool) $config->get('deployment/blue_green/enabled'), 'amqp' => (bool) $config->get('queue/amqp')];
// A part that fails is unknown, and says why.
$part = function (string $name, callable $ask) use (&$out) {
    try {
        $out[$name] = $ask();
    } catch (Throwable $error) {
        $out['unknown'][$name] = get_class($error) . ': ' . $error->getMessage();
    }
};

// The server's own word on a statement: an empty copy of the table is altered.
$scratches = [];
$open = function (string $connection) use ($resource, &$scratches) {
    $pdo = $resource->getConnection($connection)->getConnection();
    $name = $pdo->query('SELECT DATABASE()')->fetchColumn();
    $scratch = ['pdo' => $pdo, 'shop' => $name, 'name' => null, 'ours' => false, 'why' => null];
    $schema = $name . '_oxistrano';
    $is = fn (string $sql) => $pdo->query($sql . ' = ' . $pdo->quote($schema))->fetchAll(PDO::FETCH_COLUMN);
    try {
        if ($pdo->query('SELECT GET_LOCK(' . $pdo->quote($schema) . ', 5)')->fetchColumn() != 1) {
            throw new Exception('another run is using it');
        }
        if (!$is('SELECT SCHEMA_NAME FROM information_schema.SCHEMATA WHERE SCHEMA_NAME')) {
            $pdo->exec("CREATE DATABASE `$schema`");
            $scratch['ours'] = true;
        }
        foreach ($is('SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA') as $table) {
            if ($table !== 'oxistrano_copy') {
                throw new Exception("it holds a table that is not ours, $table");
            }
        }
        $pdo->exec("CREATE TABLE IF NOT EXISTS `$schema`.oxistrano_copy (a INT)");
        $scratch['name'] = $schema;
    } catch (Exception $error) {
        $scratch['why'] = "schema $schema: " . $error->getMessage();
    }
    // As Magento alters.
    $pdo->exec("SET SQL_MODE = 'NO_AUTO_VALUE_ON_ZERO'");
    $server = $pdo->query('SELECT VERSION() AS version')->fetch(PDO::FETCH_ASSOC);
    foreach ($pdo->query("SHOW GLOBAL VARIABLES WHERE Variable_name IN ('alter_algorithm', 'old_alter_table', 'wsrep_on')") as $row) {
        $server[$row[0]] = $row[1];
    }
    foreach ($pdo->query("SHOW VARIABLES WHERE Variable_name IN ('alter_algorithm', 'old_alter_table')") as $row) {
        $server['own_' . $row[0]] = $row[1];
    }
    $scratch['server'] = $server;
    return $scratches[$connection] = $scratch;
};
$ask = function (array $scratch, string $table, array $statements) {
    $pdo = $scratch['pdo'];
    $facts = $pdo->prepare('SELECT ENGINE AS engine, TABLE_ROWS AS `rows`, DATA_LENGTH + INDEX_LENGTH AS bytes, ROW_FORMAT AS row_format,'
        . ' CREATE_OPTIONS AS options, (SELECT COUNT(*) FROM information_schema.STATISTICS s WHERE s.TABLE_SCHEMA = t.TABLE_SCHEMA'
        . " AND s.TABLE_NAME = t.TABLE_NAME AND s.INDEX_TYPE NOT IN ('BTREE', 'HASH')) AS odd_indexes"
        . ' FROM information_schema.TABLES t WHERE t.TABLE_SCHEMA = ? AND t.TABLE_NAME = ?');
    $facts->execute([$scratch['shop'], $table]);
    $facts = $facts->fetch(PDO::FETCH_ASSOC) ?: [];
    if ($scratch['name'] !== null && $statements) {
        $copy = "`{$scratch['name']}`.oxistrano_copy";
        foreach (['instant' => 'ALGORITHM=INSTANT', 'inplace' => 'ALGORITHM=INPLACE, LOCK=NONE'] as $how => $clause) {
            try {
                $pdo->exec("DROP TABLE IF EXISTS $copy");
                $pdo->exec("CREATE TABLE $copy LIKE `{$scratch['shop']}`.`$table`");
                $pdo->exec("ALTER TABLE $copy " . implode(', ', $statements) . ", $clause");
                $facts[$how] = true;
            } catch (PDOException $error) {
                $facts[$how] = false;
                $facts[$how . '_error'] = $error->getMessage();
            }
        }
    }
    return $facts;
};

$part('changes', function () use ($om, $open, $ask, &$scratches, &$out) {
    $schema = $om->get(SchemaConfigInterface::class);
    $declared = $schema->getDeclarationConfig();
    $diff = $om->get(SchemaDiff::class)->diff($declared, $schema->getDbConfig())->getAll() ?: [];
    $changes = $tables = [];
    $value = fn (object $of, string $method) => method_exists($of, $method) ? $of->$method() : null;
    foreach ($diff as $operations) {
        foreach ($operations as $operation => $histories) {
            foreach ($histories as $history) {
                $new = $history->getNew();
                $table = $new instanceof Table ? $new : $new->getTable();
                $change = ['operation' => $operation, 'table' => $table->getName(), 'name' => $new->getName(), 'type' => $new->getType(),
                    'element' => $new->getElementType(), 'fills' => (string) $value($new, 'getOnCreate') !== '',
                    // As db_schema_whitelist.json has them.
                    'plain_table' => $value($table, 'getNameWithoutPrefix'), 'plain_name' => $value($new, 'getNameWithoutPrefix')];
                $statements = [];
                if ($operation === 'create_table') {
                    foreach ($new->getColumns() as $column) {
                        $change['fills'] = $change['fills'] || (string) $column->getOnCreate() !== '';
                    }
                    foreach ($new->getReferenceConstraints() as $reference) {
                        $change['references'][] = ['table' => $reference->getReferenceTable()->getName(), 'on_delete' => $reference->getOnDelete()];
                    }
                } elseif ($operation === 'add_column') {
                    $default = $value($new, 'getDefault');
                    $change += ['nullable' => $value($new, 'isNullable'), 'default' => $default === 'NULL' ? null : $default,
                        'identity' => (bool) $value($new, 'isIdentity')];
                    if (!$change['identity']) {
                        $statements = $om->get(Operations\AddColumn::class)->doOperation($history);
                    }
                } elseif ($operation === 'add_complex_element') {
                    $change['index_type'] = $value($new, 'getIndexType');
                    if ($change['element'] === 'index') {
                        $statements = $om->get(Operations\AddComplexElement::class)->doOperation($history);
                    }
                }
                foreach ($statements as $statement) {
                    $change['fills'] = $change['fills'] || $statement->getTriggers();
                    $change['sql'][] = $statement->getStatement();
                    $tables[$table->getResource()][$table->getName()][] = $statement->getStatement();
                }
                $changes[] = $change;
            }
        }
    }
    try {
        foreach ($tables as $connection => $statements) {
            $scratch = $open($connection);
            $out['servers'][$connection] = $scratch['server'] + ['scratch' => $scratch['name'], 'why' => $scratch['why']];
            foreach ($statements as $table => $list) {
                $out['tables'][$table] = ['connection' => $connection] + $ask($scratch, $table, $list);
            }
        }
    } finally {
        foreach ($scratches as $scratch) {
            if ($scratch['name'] !== null) {
                $scratch['pdo']->exec("DROP TABLE IF EXISTS `{$scratch['name']}`.oxistrano_copy");
            }
            if ($scratch['ours']) {
                $scratch['pdo']->exec("DROP DATABASE `{$scratch['shop']}_oxistrano`");
            }
        }
    }
    return $changes;
});

$modules = $om->get(ModuleList::class)->getNames();
$registrar = $om->get(ComponentRegistrar::class);
foreach (['data' => 'isSkipableByDataSetupVersion', 'schema' => 'isSkipableBySchemaSetupVersion'] as $type => $isSkipable) {
    $part($type . '_patches', function () use ($om, $modules, $type, $isSkipable) {
        $reader = $om->create(Patch\PatchReader::class, ['type' => $type]);
        $pending = [];
        foreach ($modules as $module) {
            foreach ($reader->read($module) as $patch) {
                if (
                    !$om->get(Patch\PatchHistory::class)->isApplied($patch)
                    && !$om->get(Patch\PatchBackwardCompatability::class)->$isSkipable($patch, $module)
                ) {
                    $pending[] = $patch;
                }
            }
        }
        return $pending;
    });
}
$part('versions', function () use ($om) {
    $versions = [];
    foreach ($om->get(DbVersionInfo::class)->getDbVersionErrors() as $error) {
        $scripts = [];
        foreach (['InstallSchema', 'UpgradeSchema', 'InstallData', 'UpgradeData'] as $class) {
            $class = str_replace('_', '\\', $error['module']) . '\\Setup\\' . $class;
            if (class_exists($class)) {
                $scripts[] = $class;
            }
        }
        $versions[] = $error + ['scripts' => $scripts];
    }
    return $versions;
});
$part('scripts', function () use ($modules, $registrar, $within) {
    $found = [];
    foreach ($modules as $module) {
        foreach (['Recurring', 'RecurringData'] as $class) {
            $file = $registrar->getPath(ComponentRegistrar::MODULE, $module) . "/Setup/$class.php";
            if (is_file($file)) {
                $found[] = ['class' => str_replace('_', '\\', $module) . '\\Setup\\' . $class, 'file' => $within($file)];
            }
        }
    }
    return $found;
});
$part('queues', function () use ($modules, $registrar, $within) {
    $found = [];
    foreach ($modules as $module) {
        foreach (['queue_topology', 'queue_publisher', 'queue_consumer', 'communication', 'queue'] as $name) {
            $file = $registrar->getPath(ComponentRegistrar::MODULE, $module) . "/etc/$name.xml";
            if (is_file($file)) {
                $found[] = $within($file);
            }
        }
    }
    return $found;
});
// Magento reads those of disabled modules as well.
$part('whitelists', function () use ($registrar, $within) {
    $found = [];
    foreach ($registrar->getPaths(ComponentRegistrar::MODULE) as $path) {
        $file = "$path/etc/db_schema_whitelist.json";
        if (is_file($file)) {
            $found[] = $within($file);
        }
    }
    return $found;
});
// As Magento\Framework\Mview\TriggerCleaner compares, which setup:upgrade runs.
$part('triggers', function () use ($om, $resource) {
    if (!class_exists(Magento\Framework\Mview\TriggerCleaner::class)) {
        return [];
    }
    $connection = $resource->getConnection()->getConnection();
    $there = $connection->query('SELECT TRIGGER_NAME, ACTION_STATEMENT FROM information_schema.TRIGGERS WHERE TRIGGER_SCHEMA = DATABASE()')
        ->fetchAll(PDO::FETCH_KEY_PAIR);
    $wrong = $known = [];
    foreach ($om->create(Magento\Framework\Mview\View\Collection::class)->getViewsByStateMode('enabled') as $view) {
        foreach ($view->getSubscriptions() as $subscription) {
            foreach ($view->initSubscriptionInstance($subscription)->create(false)->getTriggers() as $trigger) {
                $known[$name = $trigger->getName()] = true;
                foreach (explode(PHP_EOL, implode(PHP_EOL, $trigger->getStatements())) as $line) {
                    if (!str_contains($there[$name] ?? '', $line)) {
                        $wrong[$name] = true;
                    }
                }
            }
        }
    }
    foreach (array_diff_key($there, $known) as $name => $_) {
        if (strpos($name, 'trg_') === 0) {
            $wrong[$name] = true;
        }
    }
    return array_keys($wrong);
});
$part('themes', function () use ($registrar, $resource) {
    $connection = $resource->getConnection();
    $there = $connection->getConnection()->query("SELECT CONCAT(area, '/', theme_path), type FROM `" . $resource->getTableName('theme') . '`')
        ->fetchAll(PDO::FETCH_KEY_PAIR);
    $code = array_keys($registrar->getPaths(ComponentRegistrar::THEME));
    $physical = array_keys($there, 0);
    return ['new' => array_values(array_diff($code, array_keys($there))), 'gone' => array_values(array_diff($physical, $code))];
});
$part('emptied', function () use ($resource) {
    return $resource->getConnection()->getConnection()->query('SELECT TABLE_NAME FROM information_schema.TABLES'
        . " WHERE TABLE_SCHEMA = DATABASE() AND ENGINE = 'MEMORY' AND TABLE_ROWS > 0")->fetchAll(PDO::FETCH_COLUMN);
});
$part('import', function () use ($om, $config) {
    $found = ['deletes' => [], 'of_others' => []];
    $detector = $om->get(Magento\Deploy\Model\DeploymentConfig\ChangeDetector::class);
    $scopes = (array) $config->getConfigData('scopes');
    if ($detector->hasChanges('scopes')) {
        $calculator = $om->get(Magento\Store\Model\Config\Importer\DataDifferenceCalculator::class);
        foreach ($scopes as $scope => $data) {
            foreach ($calculator->getItemsToDelete($scope, $data) as $code => $item) {
                $found['deletes'][] = rtrim($scope, 's') . ' ' . $code;
            }
        }
    }
    $hashes = $om->get(Magento\Deploy\Model\DeploymentConfig\Hash::class)->get();
    $generator = $om->get(Magento\Deploy\Model\DeploymentConfig\Hash\Generator::class);
    foreach ($hashes as $section => $hash) {
        if ($config->getConfigData($section) === null && !in_array($hash, [$generator->generate(null), $generator->generate([])], true)) {
            $found['of_others'][] = $section;
        }
    }
    return $found;
});
echo "\nOXISTRANO " . json_encode($out, JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE | JSON_PARTIAL_OUTPUT_ON_ERROR) . "\n";
