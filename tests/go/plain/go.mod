module rillevents.test/plain

go 1.22
