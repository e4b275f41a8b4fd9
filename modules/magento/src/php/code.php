<?php
// What the code of this release brings that outlives it in the database, as JSON: to be compared with another
// release. Run by `php -r` with the release's root as argument.
use Magento\Framework\App\DeploymentConfig;
use Magento\Framework\Module\ModuleList;
use Magento\Framework\Setup\Declaration\Schema\SchemaConfigInterface;
use Magento\Framework\Setup\Patch;

ini_set('display_errors', 'stderr');
require $argv[1] . '/app/bootstrap.php';
$om = Magento\Framework\App\Bootstrap::create(BP, $_SERVER)->getObjectManager();
$out = ['patches' => [], 'tables' => [], 'strict' => [], 'imported' => []];
foreach ($om->get(ModuleList::class)->getNames() as $module) {
    foreach (['data', 'schema'] as $type) {
        foreach ($om->create(Patch\PatchReader::class, ['type' => $type])->read($module) as $patch) {
            if ($om->get(Patch\PatchHistory::class)->isApplied($patch)) {
                $out['patches'][] = $patch;
            }
        }
    }
}
$value = fn (object $of, string $method) => method_exists($of, $method) ? $of->$method() : null;
foreach ($om->get(SchemaConfigInterface::class)->getDeclarationConfig()->getTables() as $table) {
    $out['tables'][] = $table->getName();
    foreach ($table->getColumns() as $column) {
        $default = $value($column, 'getDefault');
        if (!$value($column, 'isNullable') && !$value($column, 'isIdentity') && ($default === null || $default === 'NULL')) {
            $out['strict'][] = [$table->getName(), $column->getName(), 'column'];
        }
    }
    foreach ($table->getConstraints() as $constraint) {
        $out['strict'][] = [$table->getName(), $constraint->getName(), $constraint->getType()];
    }
}
$config = $om->get(DeploymentConfig::class);
foreach (['scopes', 'system', 'themes'] as $section) {
    if ($data = $config->getConfigData($section)) {
        $out['imported'][$section] = sha1(serialize($data));
    }
}
echo "\nOXISTRANO " . json_encode($out, JSON_UNESCAPED_SLASHES | JSON_INVALID_UTF8_SUBSTITUTE) . "\n";
