<?php
// One question of Oxistrano's module php_fpm, asked over FastCGI. The file lies where no web
// server looks, has a name that nobody knows, and is removed once it was asked.
// For PHP 7.1 and later. The answer is JSON between two marks, since auto_prepend_file and
// others may write around it.

namespace Oxistrano\PhpFpm;

final class Question
{
    /** What is said at the end, also when a fatal error is the end. */
    public static $answer = [];
    /** Between these the answer stands. */
    public static $mark = '';

    /** Errors go into the answer, not into the shop's log. */
    public static function prepare(): void
    {
        self::may('ini_set', 'display_errors', '0');
        self::may('ini_set', 'log_errors', '0');
        self::may('set_time_limit', 120);
    }

    public static function said(): void
    {
        $flags = JSON_UNESCAPED_SLASHES | JSON_PARTIAL_OUTPUT_ON_ERROR;
        if (defined('JSON_INVALID_UTF8_SUBSTITUTE')) {
            $flags |= JSON_INVALID_UTF8_SUBSTITUTE;
        }
        echo "\n", self::$mark, json_encode(self::$answer, $flags), self::$mark, "\n";
        // Its time lies in the future, so opcache has not kept it; unless it was told to.
        self::may('opcache_invalidate', __FILE__, true);
    }

    /** Calls a function that disable_functions may have taken away. */
    private static function may(string $name, ...$arguments)
    {
        return function_exists($name) ? @$name(...$arguments) : null;
    }

    /** Answers; what it knows already stays known when it fails later. */
    public static function answer(array $in): void
    {
        $out = &self::$answer;
        $out['php'] = PHP_VERSION;
        $out['sapi'] = PHP_SAPI;
        $out['pid'] = self::may('getmypid');
        $out['time'] = time();
                $out['realpath_cache_ttl'] = (int) ini_get('realpath_cache_ttl');
        $out['restrict_api'] = (string) ini_get('opcache.restrict_api');
        // Not fpm_get_status(): it may crash while a worker is being started (php-src 18595).
        if (!extension_loaded('Zend OPcache')) {
            $out['opcache'] = 'absent';
            return;
        }
        $missing = [];
        foreach (['get_status', 'reset', 'compile_file', 'is_script_cached', 'invalidate'] as $name) {
            if (!function_exists("opcache_$name")) {
                $missing[] = "opcache_$name";
            }
        }
        if ($missing) {
            $out['opcache'] = 'forbidden';
            $out['missing'] = $missing;
            return;
        }
        self::may('error_clear_last');
        $status = @opcache_get_status(false);
        if (!is_array($status)) {
            $last = error_get_last();
            $restricted = $last && strpos($last['message'], 'restrict_api') !== false;
            $out['opcache'] = $restricted ? 'restricted' : 'disabled';
            return;
        }
        $pending = !empty($status['restart_pending']) || !empty($status['restart_in_progress']);
        $out['opcache'] = !empty($status['opcache_enabled']) || $pending ? 'enabled' : 'disabled';
        $out['pending'] = $pending;
        self::figures($status);
        $out['preload'] = (string) ini_get('opcache.preload');
        $out['jit'] = !empty($status['jit']['on']);
        foreach (['validate_timestamps', 'revalidate_freq', 'revalidate_path', 'file_update_protection'] as $name) {
            $out[$name] = (int) ini_get("opcache.$name");
        }
        switch ($in['ask'] ?? '') {
            case 'reset':
                $out['reset'] = opcache_reset();
                break;
            case 'scripts':
                self::scripts($in);
                break;
            case 'stale':
                self::stale($in);
                break;
            case 'compile':
                self::compile($in);
                break;
        }
    }

    private static function figures(array $status): void
    {
        $keys = $status['opcache_statistics'];
        self::$answer['memory'] = $status['memory_usage'] ?? null;
        self::$answer['strings'] = $status['interned_strings_usage'] ?? null;
        self::$answer['statistics'] = $keys;
        self::$answer['full'] = !empty($status['cache_full'])
            || $keys['num_cached_keys'] >= $keys['max_cached_keys'];
    }

    private static function below(string $path, string $directory): ?string
    {
        $length = strlen($directory) + 1;
        return strncmp($path, "$directory/", $length) === 0 ? substr($path, $length) : null;
    }

    /** What is cached below directories, the most used first. */
    private static function scripts(array $in): void
    {
        $found = [];
        $memory = 0;
        $scripts = 0;
        foreach (opcache_get_status(true)['scripts'] ?? [] as $path => $script) {
            foreach ($in['below'] as $directory) {
                $name = self::below($path, $directory);
                if ($name === null || preg_match('//u', $name) !== 1) {
                    continue;
                }
                $found[$name] = ($found[$name] ?? 0) + $script['hits'] + 1;
                $memory += $script['memory_consumption'];
                $scripts++;
            }
        }
        arsort($found);
        self::$answer['names'] = array_map('strval', array_keys(array_slice($found, 0, $in['most'])));
        self::$answer['memory_of'] = $memory;
        self::$answer['scripts_of'] = $scripts;
    }

    /** What is known under a path that leads through `current`, and how large releases are. */
    private static function stale(array $in): void
    {
        $names = array_flip($in['entry_points']);
        $releases = [];
        $inplace = ['scripts' => 0, 'changed' => 0];
        foreach (opcache_get_status(true)['scripts'] ?? [] as $path => $script) {
            $name = self::below($path, $in['releases']);
            if ($name !== null && strpos($name, '/') !== false) {
                list($release, $name) = explode('/', $name, 2);
                $releases[$release]['scripts'] = ($releases[$release]['scripts'] ?? 0) + 1;
                $releases[$release]['memory'] = ($releases[$release]['memory'] ?? 0) + $script['memory_consumption'];
            } else {
                $name = $in['directory'] ? self::below($path, $in['current_real']) : null;
                if ($name !== null) {
                    $inplace['scripts']++;
                    // A file that was replaced has a new inode, and its time cannot be faked.
                    $changed = @filectime($path);
                    $inplace['changed'] = max($inplace['changed'], $changed === false ? time() : $changed);
                }
            }
            if ($name !== null && preg_match('~^(pub/)?[^/]+\z~', $name)) {
                $names[$name] = true;
            }
        }
        $paths = [];
        foreach ($in['current'] as $current) {
            foreach (array_keys($names) as $name) {
                if ($in['directory'] === false && @opcache_is_script_cached("$current/$name")) {
                    $paths[] = "$current/$name";
                }
            }
        }
        // Other ways to the releases than the one that was named, as far as this worker knows.
        $resolved = [];
        foreach (self::may('realpath_cache_get') ?: [] as $path => $entry) {
            $target = isset($entry['realpath']) ? self::below($entry['realpath'], $in['releases']) : null;
            if ($target === null || self::below($path, $in['releases']) !== null) {
                continue;
            }
            if (empty($entry['is_dir'])) {
                $resolved[] = $path;
                if (@opcache_is_script_cached($path)) {
                    $paths[] = $path;
                }
            }
        }
        self::$answer['paths'] = array_values(array_unique($paths));
        self::$answer['resolved'] = array_slice($resolved, 0, 20);
        self::$answer['releases'] = (object) $releases;
        self::$answer['inplace'] = $inplace;
    }

    /** Compiles what is not cached yet, for a limited time. */
    private static function compile(array $in): void
    {
        $out = &self::$answer;
        $out += ['next' => 0, 'compiled' => 0, 'cached' => 0, 'missing' => 0, 'left_out' => 0,
            'young' => [], 'failed' => [], 'no_room' => false];
        $until = microtime(true) + $in['seconds'];
        foreach ($in['names'] as $index => $name) {
            if ($index % 8 === 0 && !self::room()) {
                $out['no_room'] = true;
                break;
            }
            // Before it is tried: who continues must not try the same again.
            $out['next'] = $index + 1;
            $path = $in['base'] . '/' . $name;
            if (!@is_file($path)) {
                $out['missing']++;
            } elseif (opcache_is_script_cached($path)) {
                $out['cached']++;
            } else {
                self::compileOne($path, $name);
            }
            if (microtime(true) > $until) {
                break;
            }
        }
        self::figures(opcache_get_status(false));
    }

    private static function compileOne(string $path, string $name): void
    {
        $out = &self::$answer;
        self::may('error_clear_last');
        $out['at'] = $name;
        try {
            $compiled = @opcache_compile_file($path);
            $last = error_get_last();
            $why = $last ? $last['message'] : 'opcache says no reason';
        } catch (\Throwable $error) {
            $compiled = false;
            $why = $error->getMessage() . ' in line ' . $error->getLine();
        }
        unset($out['at']);
        if (!$compiled) {
            $out['failed'][] = [$name, substr($why, 0, 300)];
        } elseif (opcache_is_script_cached($path)) {
            $out['compiled']++;
        } elseif (@filemtime($path) > time() - (int) ini_get('opcache.file_update_protection')) {
            $out['young'][] = $name;
        } else {
            $out['left_out']++;
        }
    }

    /** Whether the shop itself keeps some room: a full cache compiles at every request. */
    private static function room(): bool
    {
        $status = opcache_get_status(false);
        $memory = $status['memory_usage'];
        $total = $memory['used_memory'] + $memory['free_memory'] + $memory['wasted_memory'];
        $keys = $status['opcache_statistics'];
        return empty($status['cache_full'])
            && $memory['free_memory'] > max(512 * 1024, $total / 50)
            && $keys['num_cached_keys'] + max(8, $keys['max_cached_keys'] / 50) < $keys['max_cached_keys'];
    }
}

Question::$mark = (string) ($_SERVER['OXISTRANO_MARK'] ?? getenv('OXISTRANO_MARK'));
if (Question::$mark === '') {
    exit;
}
Question::prepare();
register_shutdown_function(function () {
    $last = error_get_last();
    if ($last && ($last['type'] & (E_ERROR | E_CORE_ERROR | E_COMPILE_ERROR))) {
        Question::$answer['fatal'] = $last['message'];
    }
    Question::said();
});
try {
    Question::answer((array) json_decode((string) file_get_contents('php://input'), true));
} catch (\Throwable $error) {
    Question::$answer['error'] = $error->getMessage();
}
