<?php

declare(strict_types=1);

namespace Shop\Framework;

use RuntimeException;

/**
 * In place of the fixture's own, whose cache is a directory: one in Redis, that all hosts share, at the
 * place in env.php where Magento has it. As Magento, nothing goes without it.
 */
final class Cache
{
    private const FRONTEND = 'cache/frontend/default';

    /** @var array<string, string>|null */
    private readonly ?array $options;

    private readonly string $prefix;

    /** @var resource|null */
    private $redis = null;

    public function __construct(DeploymentConfig $config)
    {
        $options = $config->env(self::FRONTEND . '/backend_options');
        // A command that was given a cache of its own, in files, has none here.
        $this->options = isset($options['server']) ? $options : null;
        $this->prefix = $config->env(self::FRONTEND . '/id_prefix') ?? '';
    }

    public function has(string $name): bool
    {
        return $this->ask('EXISTS', $this->prefix . $name) === '1';
    }

    public function save(string $name, string $content): void
    {
        $this->ask('SET', $this->prefix . $name, $content);
    }

    public function load(string $name): ?string
    {
        $content = $this->ask('GET', $this->prefix . $name);
        return $content === '' ? null : $content;
    }

    public function clean(): void
    {
        // One line, of our own: what KEYS answers is an array.
        $this->ask(
            'EVAL',
            "for _, key in ipairs(redis.call('KEYS', ARGV[1])) do redis.call('DEL', key) end return 1",
            '0',
            $this->prefix . '*'
        );
    }

    public function flush(): void
    {
        $this->ask('FLUSHDB');
    }

    /**
     * @return string the answer, if it is one line or one string
     */
    private function ask(string ...$words): string
    {
        if ($this->options === null) {
            return '';
        }
        $this->redis ??= $this->connect();
        $request = '*' . count($words) . "\r\n";
        foreach ($words as $word) {
            $request .= '$' . strlen($word) . "\r\n$word\r\n";
        }
        fwrite($this->redis, $request);
        $answer = (string) fgets($this->redis);
        if ($answer === '' || $answer[0] === '-') {
            throw new RuntimeException("Redis: $answer");
        }
        if ($answer[0] === '$') {
            $length = (int) substr($answer, 1);
            return $length < 0 ? '' : substr((string) stream_get_contents($this->redis, $length + 2), 0, $length);
        }
        return trim(substr($answer, 1));
    }

    /**
     * @return resource
     */
    private function connect()
    {
        $address = "tcp://{$this->options['server']}:{$this->options['port']}";
        $redis = @stream_socket_client($address, $number, $text, 5);
        if ($redis === false) {
            throw new RuntimeException("Connection to Redis $address failed after 2 failures.Last Error : ($number) $text");
        }
        return $redis;
    }
}
