//! A FastCGI client: asks a php-fpm pool over its socket or port.
